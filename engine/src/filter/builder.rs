//! The typed builder: `field("year").gte(1990)`.

use super::{Filter, FilterValue};
use std::ops::{Bound, RangeBounds};

/// Names a field to compare.
///
/// ```
/// use akidb::field;
///
/// let nouns = field("pos").eq("noun");
/// let nineties = field("year").between(1990..2000);
/// let dogs = field("words").contains("dog");
/// let filter = nouns & (nineties | dogs) & !field("hidden").eq(true);
/// assert_eq!(filter.to_json()["and"][0]["eq"], "noun");
/// ```
pub fn field(name: impl Into<String>) -> FieldRef {
    FieldRef { name: name.into() }
}

/// A field named by [`field`](crate::field): each method makes a [`Filter`] of it.
#[derive(Clone, Debug)]
#[must_use = "a field is no condition until it is compared"]
pub struct FieldRef {
    name: String,
}

impl FieldRef {
    /// The value equals `value`.
    pub fn eq(self, value: impl Into<FilterValue>) -> Filter {
        Filter::Eq { field: self.name, value: value.into() }
    }

    /// The value does not equal `value`; also true of rows without the field.
    pub fn ne(self, value: impl Into<FilterValue>) -> Filter {
        Filter::Ne { field: self.name, value: value.into() }
    }

    /// The value equals one of `values`.
    ///
    /// ```
    /// let filter = akidb::field("pos").is_in(["noun", "verb"]);
    /// assert_eq!(filter.to_string(), r#"{"field":"pos","in":["noun","verb"]}"#);
    /// ```
    #[expect(
        clippy::wrong_self_convention,
        reason = "a field is named for one condition and used up by it; `in` is a keyword"
    )]
    pub fn is_in<V: Into<FilterValue>>(self, values: impl IntoIterator<Item = V>) -> Filter {
        Filter::In { field: self.name, values: values.into_iter().map(Into::into).collect() }
    }

    /// The value is greater than `value`.
    pub fn gt(self, value: impl Into<FilterValue>) -> Filter {
        self.range(Bound::Excluded(value.into()), Bound::Unbounded)
    }

    /// The value is `value` or greater.
    pub fn gte(self, value: impl Into<FilterValue>) -> Filter {
        self.range(Bound::Included(value.into()), Bound::Unbounded)
    }

    /// The value is less than `value`.
    pub fn lt(self, value: impl Into<FilterValue>) -> Filter {
        self.range(Bound::Unbounded, Bound::Excluded(value.into()))
    }

    /// The value is `value` or less.
    pub fn lte(self, value: impl Into<FilterValue>) -> Filter {
        self.range(Bound::Unbounded, Bound::Included(value.into()))
    }

    /// The value lies in a range, such as `1990..2000`, `0.5..=1.0` or `"a".."c"`. The full
    /// range `..` is refused by the verb that uses the filter: [`exists`](Self::exists) says it.
    ///
    /// ```
    /// let filter = akidb::field("year").between(1990..2000);
    /// assert_eq!(filter.to_string(), r#"{"field":"year","gte":1990,"lt":2000}"#);
    /// ```
    pub fn between<V>(self, range: impl RangeBounds<V>) -> Filter
    where
        V: Into<FilterValue> + Clone,
    {
        let own = |bound: Bound<&V>| bound.map(|value| value.clone().into());
        self.range(own(range.start_bound()), own(range.end_bound()))
    }

    /// The row has this field, with a value that is not `null`.
    pub fn exists(self) -> Filter {
        Filter::Exists { field: self.name, exists: true }
    }

    /// The value is a list in which the string `value` stands.
    pub fn contains(self, value: impl Into<String>) -> Filter {
        Filter::Contains { field: self.name, value: value.into() }
    }

    fn range(self, lower: Bound<FilterValue>, upper: Bound<FilterValue>) -> Filter {
        Filter::Range { field: self.name, lower, upper }
    }
}
