//! Readers of single option values. Each says what would have been right, because clap prints
//! the text as it is.

use super::StorePlace;
use akidb::{Durability, FieldDef, FieldType, Filter, Metric, WalBackend};

/// The sync interval of `--durability interval` without a number: what people expect of "every
/// second or so" stores.
const INTERVAL_MS: u64 = 1000;

pub(super) fn metric(text: &str) -> Result<Metric, String> {
    match text {
        "cosine" => Ok(Metric::Cosine),
        "dot" => Ok(Metric::Dot),
        "l2" => Ok(Metric::L2),
        _ => Err("give cosine, dot or l2".to_owned()),
    }
}

pub(super) fn durability(text: &str) -> Result<Durability, String> {
    match text.split_once(':') {
        None if text == "sync" => Ok(Durability::Sync),
        None if text == "memory" => Ok(Durability::Memory),
        None if text == "interval" => Ok(Durability::Interval { ms: INTERVAL_MS }),
        Some(("interval", ms)) => ms
            .parse()
            .map(|ms| Durability::Interval { ms })
            .map_err(|_| format!("{ms:?} is not a number of milliseconds")),
        _ => Err("give sync, interval, interval:MILLISECONDS or memory".to_owned()),
    }
}

pub(super) fn wal_backend(text: &str) -> Result<WalBackend, String> {
    match text {
        "std" => Ok(WalBackend::Std),
        "auto" => Ok(WalBackend::Auto),
        "uring" => Ok(WalBackend::Uring),
        "tokio-uring" | "tokio_uring" => Ok(WalBackend::TokioUring),
        _ => Err("give std, auto, uring or tokio-uring".to_owned()),
    }
}

/// `FIELD:TYPE`; the field may hold colons, the type cannot.
pub(super) fn field(text: &str) -> Result<FieldDef, String> {
    const TYPES: [FieldType; 5] = [
        FieldType::Keyword,
        FieldType::Integer,
        FieldType::Float,
        FieldType::Bool,
        FieldType::Timestamp,
    ];
    let (name, wanted) =
        text.rsplit_once(':').ok_or("give the field and its type, like pos:keyword")?;
    let field_type =
        TYPES.into_iter().find(|field_type| field_type.to_string() == wanted).ok_or_else(|| {
            format!("{wanted:?} is not a type; give keyword, integer, float, bool or timestamp")
        })?;
    Ok(FieldDef { name: name.to_owned(), field_type })
}

pub(super) fn filter(text: &str) -> Result<Filter, String> {
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    Filter::from_json(&json).map_err(|error| error.to_string())
}

/// `file:DIR` or `s3://BUCKET/PREFIX`.
pub(super) fn store(text: &str) -> Result<StorePlace, String> {
    const FORMS: &str = "give file:DIR or s3://BUCKET/PREFIX";
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(FORMS.to_owned());
        }
        let prefix = Some(prefix.trim_end_matches('/')).filter(|prefix| !prefix.is_empty());
        return Ok(StorePlace::S3 { bucket: bucket.to_owned(), prefix: prefix.map(str::to_owned) });
    }
    let dir = text.strip_prefix("file:").ok_or(FORMS)?;
    // As a URL has it: file:///mnt/objects.
    let dir = dir.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(dir);
    if dir.is_empty() { Err(FORMS.to_owned()) } else { Ok(StorePlace::File(dir.into())) }
}

/// A time like `500ms`, `90s`, `30m`, `6h` or `7d`, in milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    scaled(text, &UNITS)
        .ok_or_else(|| "give a time with its unit, like 90s, 30m, 6h or 7d".to_owned())
}

/// A size like `500MB` or `4GiB`, or bare bytes.
pub(super) fn byte_count(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 10] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    scaled(text, &UNITS).ok_or_else(|| "give a size, like 500MB or 4GiB".to_owned())
}

/// A whole number times the unit that it ends in: the first that fits.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("give 1 or more".to_owned()),
        Ok(n) => Ok(n),
        Err(_) => Err("give a whole number".to_owned()),
    }
}

/// Above 0, at most 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "give a number above 0 and at most 1".to_owned())
}

pub(super) fn dimension(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|dim| (1..=akidb::DIM_MAX).contains(dim))
        .ok_or_else(|| format!("give 1 to {}", akidb::DIM_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_has_a_level_and_an_optional_interval() {
        assert_eq!(durability("sync"), Ok(Durability::Sync));
        assert_eq!(durability("memory"), Ok(Durability::Memory));
        assert_eq!(durability("interval"), Ok(Durability::Interval { ms: INTERVAL_MS }));
        assert_eq!(durability("interval:20"), Ok(Durability::Interval { ms: 20 }));
        for wrong in ["", "Sync", "interval:", "interval:-1", "sync:1"] {
            assert!(durability(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_field_is_a_name_and_a_type() {
        let def = field("a:b:integer").unwrap();
        assert_eq!((def.name.as_str(), def.field_type), ("a:b", FieldType::Integer));
        assert!(field("pos").unwrap_err().contains("pos:keyword"));
        assert!(field("pos:text").unwrap_err().contains("keyword, integer"));
    }

    #[test]
    fn a_store_is_a_directory_or_a_bucket() {
        let s3 = |bucket: &str, prefix: Option<&str>| StorePlace::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.map(str::to_owned),
        };
        assert_eq!(store("file:objects"), Ok(StorePlace::File("objects".into())));
        assert_eq!(store("file:///mnt/objects"), Ok(StorePlace::File("/mnt/objects".into())));
        assert_eq!(store("s3://rows"), Ok(s3("rows", None)));
        assert_eq!(store("s3://rows/a/b/"), Ok(s3("rows", Some("a/b"))));
        for wrong in ["", "objects", "file:", "s3://", "s3:///a", "http://rows"] {
            assert!(store(wrong).unwrap_err().contains("file:DIR"), "{wrong}");
        }
        for place in ["file:objects", "s3://rows", "s3://rows/a/b"] {
            assert_eq!(store(place).unwrap().to_string(), place);
        }
    }

    #[test]
    fn times_and_sizes_have_units() {
        let times = [("0s", 0), ("500ms", 500), ("2m", 120_000), ("6h", 21_600_000)];
        assert!(times.into_iter().all(|(text, ms)| milliseconds(text) == Ok(ms)));
        let sizes = ["12", "12B", "3kB", "2MiB", "1GB"].map(|text| byte_count(text).unwrap());
        assert_eq!(sizes, [12, 12, 3_000, 2 << 20, 1_000_000_000]);
        for wrong in ["", "5", "h", "-1s", "1.5h", "6 h", "99999999999999999999s"] {
            assert!(milliseconds(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "MB", "5mb", "-1", "99999999999999TB"] {
            assert!(byte_count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_of_something_and_not_of_more_than_all() {
        assert_eq!((share("1"), share("0.001")), (Ok(1.0), Ok(0.001)));
        for wrong in ["0", "-0.5", "1.01", "NaN", "inf", "half"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_filter_that_is_not_one_says_where() {
        assert!(filter(r#"{"field":"pos","eq":"verb"}"#).is_ok());
        assert!(filter("{pos}").unwrap_err().contains("not JSON"));
        assert!(filter(r#"{"fild":"pos"}"#).is_err());
    }
}
