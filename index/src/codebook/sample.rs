//! Rows by their numbers: which a training looks at, and copies of them side by side.

use crate::{
    executor::{Executor, map},
    rotation::SplitMix64,
};

/// At most `most` of the numbers below `count`, each once, in an order that the seed decides.
pub(super) fn sample(count: usize, most: usize, random: &mut SplitMix64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count as u32).collect();
    let taken = most.min(count);
    for at in 0..taken {
        let other = at + random.below(count - at);
        numbers.swap(at, other);
    }
    numbers.truncate(taken);
    numbers
}

/// Copies rows to lie one behind the other.
pub(super) fn gather(rows: &[f32], dim: usize, numbers: &[u32]) -> Vec<f32> {
    let mut copies = Vec::with_capacity(numbers.len() * dim);
    for number in numbers {
        copies.extend_from_slice(&rows[*number as usize * dim..][..dim]);
    }
    copies
}

/// Components of a task.
const TASK_COMPONENTS: usize = 64;

/// The mean of the rows; zero if there is none.
pub(super) fn mean(executor: &dyn Executor, rows: &[f32], dim: usize, numbers: &[u32]) -> Vec<f32> {
    let count = numbers.len().max(1) as f64;
    let parts = map(executor, dim.div_ceil(TASK_COMPONENTS), |task| {
        let components = task * TASK_COMPONENTS..dim.min((task + 1) * TASK_COMPONENTS);
        let mut sums = vec![0.0_f64; components.len()];
        for number in numbers {
            let row = &rows[*number as usize * dim..][components.clone()];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        sums.into_iter().map(|sum| (sum / count) as f32).collect::<Vec<_>>()
    });
    parts.concat()
}
