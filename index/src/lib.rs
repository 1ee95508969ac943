//! Distance kernels and top-k.
