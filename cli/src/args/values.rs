//! Readers of single option values. Each says what would have been right, because clap prints
//! the text as it is.

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
