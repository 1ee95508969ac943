//! A codebook survives being written; bytes that are none are refused, and said why.

use super::*;
use proptest::prelude::*;

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/codebook-v1.bin");
const PAGE: &str = include_str!("../../../docs/format/codebook.md");

/// What the golden file holds: whole numbers, which no change of the training moves.
fn golden() -> Codebook {
    let centroids = vec![1.0, -2.0, 0.5, 4.0, 0.0, -0.25];
    Codebook::from_parts(centroids, vec![0.25, 1.5], vec![0.5, -1.0, 0.125], 0xA51D, 640)
}

/// Makes the id of changed bytes right.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let id = bytes::id(&bytes).to_le_bytes();
    bytes[16..24].copy_from_slice(&id);
    bytes
}

#[test]
fn the_golden_file_is_read_and_written_the_same() {
    assert_eq!(Codebook::decode(GOLDEN), Ok(golden()));
    assert_eq!(golden().encode(), GOLDEN);
}

#[test]
fn the_page_of_the_format_shows_the_golden_file() {
    let example = PAGE.split("```hexdump\n").nth(1).and_then(|rest| rest.split("```").next());
    let digits = example
        .expect("the page has an example")
        .lines()
        .flat_map(|line| line.split('|').next().unwrap_or_default().split_whitespace().skip(1));
    let bytes: Vec<u8> = digits.map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
    assert_eq!(bytes, GOLDEN);
}

fn book() -> impl Strategy<Value = Codebook> {
    let number = prop_oneof![6 => -9.0_f32..9.0, 1 => Just(f32::MAX), 1 => Just(-0.0)];
    (1_usize..70, 1_usize..6, any::<u64>(), any::<u64>()).prop_flat_map(
        move |(dim, cells, seed, rows)| {
            let numbers = |len| prop::collection::vec(number.clone(), len);
            (numbers(dim * cells), numbers(cells), numbers(dim)).prop_map(
                move |(centroids, radii, origin)| {
                    let radii = radii.into_iter().map(f32::abs).collect();
                    Codebook::from_parts(centroids, radii, origin, seed, rows)
                },
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_codebook_survives_being_written(book in book()) {
        let bytes = book.encode();
        let read = Codebook::decode(&bytes);
        prop_assert_eq!(read.as_ref().map(Codebook::id), Ok(book.id()));
        prop_assert_eq!(read.as_ref(), Ok(&book));
        prop_assert_eq!(read.map(|book| book.encode()), Ok(bytes));
    }

    #[test]
    fn a_byte_that_changed_or_lacks_is_noticed(
        book in book(),
        at in any::<prop::sample::Index>(),
        mask in 1_u8..,
    ) {
        let bytes = book.encode();
        let at = at.index(bytes.len());
        prop_assert!(Codebook::decode(&bytes[..at]).is_err());
        let mut changed = bytes.clone();
        changed[at] ^= mask;
        prop_assert!(Codebook::decode(&changed).is_err());
        changed = bytes;
        changed.push(0);
        prop_assert!(Codebook::decode(&changed).is_err());
    }

    /// With an id that fits: refused, or another codebook that encodes to these very bytes.
    #[test]
    fn hostile_bytes_are_refused_or_encode_to_themselves(
        book in book(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = book.encode();
        for (at, byte) in changes {
            // Half of the changes into the header, where each byte decides something.
            let at = at.index(if byte & 1 == 0 { 64 } else { bytes.len() });
            bytes[at] = byte;
        }
        let bytes = sealed(bytes);
        if let Ok(book) = Codebook::decode(&bytes) {
            prop_assert_eq!(book.encode(), bytes);
            prop_assert!(book.centroids().iter().chain(book.origin()).all(|x| x.is_finite()));
        }
    }
}

#[test]
fn what_is_wrong_with_a_codebook_is_said() {
    let with = |at: usize, new: &[u8]| {
        let mut bytes = GOLDEN.to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        Codebook::decode(&sealed(bytes)).err()
    };
    assert_eq!(Codebook::decode(&[]).err(), Some(BadCodebook::Short { got: 0 }));
    assert_eq!(with(0, b"AKFX"), Some(BadCodebook::Magic));
    assert_eq!(with(4, &[2, 0]), Some(BadCodebook::Version { found: 2 }));
    assert_eq!(with(7, &[1]), Some(BadCodebook::Reserved { offset: 7 }));
    assert_eq!(with(63, &[1]), Some(BadCodebook::Reserved { offset: 63 }));
    assert_eq!(with(8, &[0; 4]), Some(BadCodebook::Shape { dim: 0, cells: 2 }));
    assert_eq!(with(12, &[0; 4]), Some(BadCodebook::Shape { dim: 3, cells: 0 }));
    let (cells, want) = (u32::MAX, 64 + 12 * (1 << 32) + 4 * u64::from(u32::MAX));
    let length = BadCodebook::Length { dim: 3, cells, want, got: GOLDEN.len() };
    assert_eq!(with(12, &[255; 4]), Some(length));
    let shape = BadCodebook::Shape { dim: u32::MAX, cells: 2 };
    assert_eq!(with(8, &[255; 4]), Some(shape));
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bad = Some(BadCodebook::NotFinite { offset: 68 });
        assert_eq!(with(68, &number.to_le_bytes()), bad);
    }
    assert_eq!(with(104, &(-1.5_f32).to_le_bytes()), Some(BadCodebook::Negative { cell: 1 }));
    let mut bytes = GOLDEN.to_vec();
    bytes[70] ^= 1;
    let (stored, computed) = (golden().id(), bytes::id(&bytes));
    assert_eq!(Codebook::decode(&bytes).err(), Some(BadCodebook::Id { stored, computed }));
}

#[test]
fn whatever_differs_gives_another_id() {
    let base = golden();
    let numbers = || [base.centroids(), base.radii(), base.origin()].map(<[f32]>::to_vec);
    let with = |change: fn(&mut [Vec<f32>; 3]), seed, rows| {
        let mut numbers = numbers();
        change(&mut numbers);
        let [centroids, radii, origin] = numbers;
        Codebook::from_parts(centroids, radii, origin, seed, rows)
    };
    let others = [
        with(|numbers| numbers[0][0] += 1.0, 0xA51D, 640),
        with(|numbers| numbers[1][0] += 1.0, 0xA51D, 640),
        with(|numbers| numbers[2][0] += 1.0, 0xA51D, 640),
        with(|_| (), 1, 640),
        with(|_| (), 0xA51D, 641),
    ];
    assert_eq!(with(|_| (), 0xA51D, 640).id(), base.id());
    for other in others {
        assert_ne!(other.id(), base.id());
    }
}

#[test]
fn training_keeps_seed_mean_and_number_of_rows() {
    let rows = [1.0, 2.0, 3.0, 6.0, 5.0, 1.0];
    let book = Codebook::train(&rows, 2, 2, 11);
    assert_eq!((book.seed(), book.trained_rows(), book.origin()), (11, 3, &[3.0, 3.0][..]));
    assert_eq!(book.codec(Metric::L2).dim(), 2);
    let one = Codebook::train(&rows, 2, 1, 11);
    // The squared distances of the three rows to their mean are 5, 9 and 8.
    assert_eq!(one.radii(), [(22.0_f32 / 3.0).sqrt()]);
}
