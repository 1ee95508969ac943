//! The inverse length of a vector, computed the same way on every machine, so that a segment's
//! bytes follow from its rows alone.

/// Partial sums; enough for the compiler to use wide registers without changing the order of sums.
const LANES: usize = 8;

/// `1 / |vector|`, or 0 for a vector without direction (all zeros). Summed in `f64` in a fixed
/// order: no `f32` overflows or vanishes in it, and every machine gets the same bits.
pub(crate) fn inv_norm(vector: &[f32]) -> f32 {
    let mut lanes = [0.0_f64; LANES];
    let chunks = vector.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*x) * f64::from(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(*x) * f64::from(*x);
    }
    let sum: f64 = lanes.iter().sum();
    if sum > 0.0 {
        (1.0 / sum.sqrt()) as f32
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::inv_norm;

    #[test]
    fn inverse_norms_survive_extreme_lengths() {
        assert_eq!(inv_norm(&[]), 0.0);
        assert_eq!(inv_norm(&[0.0; 9]), 0.0);
        assert_eq!(inv_norm(&[3.0, 4.0]), 0.2);
        assert_eq!(inv_norm(&[2.0; 16]), 0.125);
        assert!(inv_norm(&[f32::MAX; 1000]) > 0.0);
        assert!(inv_norm(&[1e-30; 3]).is_finite());
    }
}
