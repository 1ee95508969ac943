//! What generated rows are: the formulas of `docs/guides/generated-rows.md`, and nothing about
//! files. Row `n` follows from the seed, the dimension and `n` alone.
//!
//! Called by `akidb gen` and by `akidb bench search --generate`.

use super::random::{Stream, decay, rotate};

/// Clusters, in dimensions of up to 2,048; beyond it so many that their centres take 64 MiB.
const TOPICS_MAX: usize = 8192;
const CENTRES_MAX: usize = 16 << 20;
/// Groups of clusters that lie together.
const FIELDS: u64 = 48;
/// The size of cluster `t` goes with `(t + 1)^(-ZIPF / 4)`.
const ZIPF: u32 = 3;
/// Deviations of component `j` go with `(j + 1)^(-BETWEEN / 4)` between centres, and with
/// `(j + 1)^(-WITHIN / 4)` between rows of one cluster.
const BETWEEN: u32 = 1;
const WITHIN: u32 = 2;
/// Lengths: of the direction that all rows share, of what a field adds, of what a cluster adds, of
/// what a row adds in the basis that all rows share, and of what it adds in that of its cluster (the
/// last between a half and one and a half times that, by cluster).
///
/// These numbers were chosen so that the share of true neighbours that the nearest cells of k-means
/// hold, and the cosines of a query's neighbours, come near those of 100,000 sentence embeddings:
/// `docs/guides/generated-rows.md` has both.
const COMMON: f32 = 0.25;
const OF_FIELD: f32 = 0.35;
const OF_TOPIC: f32 = 0.45;
const SHARED: f32 = 0.55;
const OWN: f32 = 0.55;
/// How much further a query lies from its centre, in the basis of its cluster, than a row.
const QUERY: f32 = 1.3;
/// Values of `bucket`.
pub(crate) const BUCKETS: u64 = 10_000;

/// Kinds of streams: what a random word is for.
mod kind {
    pub(super) const COMMON: u64 = 1;
    pub(super) const FIELD: u64 = 2;
    pub(super) const TOPIC: u64 = 3;
    pub(super) const BASIS: u64 = 4;
    pub(super) const TOPIC_BASIS: u64 = 5;
    pub(super) const ROW: u64 = 6;
    pub(super) const QUERY: u64 = 7;
    pub(super) const BUCKET: u64 = 8;
}

/// A generated row or query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Of unit length.
    pub(crate) vector: Vec<f32>,
    /// The number of its cluster.
    pub(crate) topic: u32,
    pub(crate) bucket: u32,
}

/// A seeded distribution of embeddings.
#[derive(Debug)]
pub(crate) struct Model {
    seed: u64,
    dim: usize,
    /// Sums of the clusters' weights, up to and with each.
    weights: Vec<f64>,
    /// The clusters' centres, one behind the other.
    centres: Vec<f32>,
    /// Deviations of the components of a row around its centre; together of length 1.
    within: Vec<f32>,
}

impl Model {
    pub(crate) fn new(dim: u32, seed: u64) -> Self {
        let dim = dim as usize;
        let topics = (CENTRES_MAX / dim.max(1)).clamp(1, TOPICS_MAX);
        let mut sum = 0.0;
        let weights = (1..=topics).map(|rank| {
            sum += decay(rank as f64, ZIPF);
            sum
        });
        let mut model = Self {
            seed,
            dim,
            weights: weights.collect(),
            centres: Vec::with_capacity(topics * dim),
            within: spectrum(dim, WITHIN),
        };
        let between = spectrum(dim, BETWEEN);
        let common = model.point(kind::COMMON, 0, &between);
        let fields: Vec<Vec<f32>> =
            (0..FIELDS).map(|field| model.point(kind::FIELD, field, &between)).collect();
        for topic in 0..topics as u64 {
            let own = model.point(kind::TOPIC, topic, &between);
            let field = Stream::new(seed, kind::TOPIC_BASIS, topic).next() % FIELDS;
            let field = fields.get(field as usize).into_iter().flatten();
            let sum = common.iter().zip(field).zip(&own);
            model.centres.extend(
                sum.map(|((common, field), own)| {
                    COMMON * common + OF_FIELD * field + OF_TOPIC * own
                }),
            );
        }
        model
    }

    /// Row `n`.
    pub(crate) fn row(&self, n: u64) -> Row {
        self.sample(Stream::new(self.seed, kind::ROW, n), n, OWN)
    }

    /// Query `n`: no row, but from the same clusters.
    pub(crate) fn query(&self, n: u64) -> Row {
        self.sample(Stream::new(self.seed, kind::QUERY, n), n, OWN * QUERY)
    }

    /// A random point whose components have these deviations in the basis of the centres.
    fn point(&self, kind: u64, index: u64, deviations: &[f32]) -> Vec<f32> {
        let mut random = Stream::new(self.seed, kind, index);
        let mut point: Vec<f32> = deviations.iter().map(|d| d * random.normal()).collect();
        rotate(&mut point, Stream::new(self.seed, kind::BASIS, 0));
        point
    }

    fn sample(&self, mut random: Stream, n: u64, length: f32) -> Row {
        let total = self.weights.last().copied().unwrap_or_default();
        let place = random.uniform() * total;
        let topic = self.weights.partition_point(|sum| *sum <= place).min(self.weights.len() - 1);
        let mut of_topic = Stream::new(self.seed, kind::TOPIC_BASIS, topic as u64);
        // The first word chose the field.
        of_topic.next();
        let spread = length * (0.5 + of_topic.uniform() as f32);
        let mut vector: Vec<f32> =
            self.within.iter().map(|d| spread * d * random.normal()).collect();
        rotate(&mut vector, of_topic);
        let mut shared: Vec<f32> =
            self.within.iter().map(|d| SHARED * d * random.normal()).collect();
        rotate(&mut shared, Stream::new(self.seed, kind::BASIS, 0));
        let centre = self.centres.chunks_exact(self.dim).nth(topic).into_iter().flatten();
        let parts = centre.zip(&shared);
        vector.iter_mut().zip(parts).for_each(|(x, (centre, shared))| *x += centre + shared);
        normalise(&mut vector);
        let bucket = (Stream::new(self.seed, kind::BUCKET, n).next() % BUCKETS) as u32;
        Row { vector, topic: topic as u32, bucket }
    }
}

/// Decaying deviations whose squares sum to 1.
fn spectrum(dim: usize, quarters: u32) -> Vec<f32> {
    let decay: Vec<f64> = (1..=dim).map(|j| decay(j as f64, quarters)).collect();
    let length = decay.iter().map(|x| x * x).sum::<f64>().sqrt();
    decay.iter().map(|x| (x / length) as f32).collect()
}

/// Scales to unit length; a vector of zeros, all but impossible, becomes the first axis.
pub(crate) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    } else if let Some(first) = vector.first_mut() {
        *first = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_from_seed_dimension_and_number_alone() {
        let (a, b, other) = (Model::new(24, 5), Model::new(24, 5), Model::new(24, 6));
        assert_eq!((a.row(3), a.query(3)), (b.row(3), b.query(3)));
        assert_ne!(a.row(3), a.row(4));
        assert_ne!(a.row(3), other.row(3));
        assert_ne!(a.row(3).vector, a.query(3).vector);
    }

    /// The bits themselves: what another machine or another compiler makes must be the same file.
    #[test]
    fn rows_are_the_same_on_every_machine() {
        let row = Model::new(3, 1).row(1);
        let bits: Vec<u32> = row.vector.iter().map(|x| x.to_bits()).collect();
        assert_eq!(
            (bits, row.topic, row.bucket),
            (vec![1_028_216_734, 3_209_774_090, 3_205_688_195], 14, 1614)
        );
    }

    #[test]
    fn vectors_have_unit_length_in_every_dimension() {
        for dim in [1, 2, 63, 65, 384] {
            let model = Model::new(dim, 1);
            for n in 0..20 {
                let length: f32 = model.row(n).vector.iter().map(|x| x * x).sum();
                assert!((length - 1.0).abs() < 1e-5, "{dim} {length}");
            }
        }
    }

    #[test]
    fn rows_lie_around_a_common_direction_in_clusters_of_uneven_size() {
        let model = Model::new(64, 1);
        let rows: Vec<Row> = (0..4000).map(|n| model.row(n)).collect();
        let mut mean = vec![0.0_f32; 64];
        for row in &rows {
            mean.iter_mut().zip(&row.vector).for_each(|(mean, x)| *mean += x / 4000.0);
        }
        // Of uniform directions the mean of 4,000 has a length of about 0.016.
        assert!(mean.iter().map(|x| x * x).sum::<f32>().sqrt() > 0.1);
        let of_topic = |topic| rows.iter().filter(|row| row.topic == topic).count();
        assert!(of_topic(0) > 20 && of_topic(0) > 5 * of_topic(500), "{}", of_topic(0));
        let in_bucket = rows.iter().filter(|row| row.bucket < 1000).count();
        assert!((300..500).contains(&in_bucket), "{in_bucket}");
    }
}
