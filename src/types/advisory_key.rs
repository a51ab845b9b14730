//! The keys of advisory locks.

use std::borrow::Cow;
use std::fmt;

use sha2::{Digest, Sha256};

use super::key_names;

/// Names an advisory lock: a `bigint`, or a pair of `int`s.
///
/// The two key spaces are apart: `AdvisoryKey::pair(0, 7)` and
/// `AdvisoryKey::new(7)` are different locks. Keys are local to a database.
///
/// See [Advisory Lock Functions][pg] for what PostgreSQL makes of a key.
///
/// [pg]: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS
///
/// # Examples
///
/// ```
/// use diesel_pglock::AdvisoryKey;
///
/// assert_eq!(AdvisoryKey::from(42), AdvisoryKey::new(42));
/// assert_eq!(AdvisoryKey::from((1, 2)), AdvisoryKey::pair(1, 2));
/// assert_eq!(AdvisoryKey::from("my_lock_id"), AdvisoryKey::new(-3531142854575798568));
/// assert_ne!(AdvisoryKey::pair(1, 2), AdvisoryKey::new(4294967298));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdvisoryKey(pub(crate) Repr);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Repr {
    Big(i64),
    Pair(i32, i32),
}

impl AdvisoryKey {
    /// Names a lock of the `bigint` key space.
    pub const fn new(key: i64) -> Self {
        Self(Repr::Big(key))
    }

    /// Names a lock of the key space of two `int`s.
    pub const fn pair(first: i32, second: i32) -> Self {
        Self(Repr::Pair(first, second))
    }

    /// Names a lock after a text.
    ///
    /// The key is the first eight bytes of the text's SHA-256 digest, read as a
    /// little-endian signed integer: the lock that django-pglock takes for the
    /// same text, so that a Python and a Rust service can exclude each other.
    ///
    /// This process keeps the name, for up to 1024 names: errors, reports, trees and lists then
    /// show the name in place of the number.
    pub fn named(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        let key = i64::from_le_bytes(first);
        key_names::remember(key, name);
        Self::new(key)
    }

    /// Puts a key together from the columns of `pg_locks`.
    ///
    /// `None` when `objsubid` is neither 1 (a `bigint` key) nor 2 (a pair).
    #[allow(clippy::cast_possible_wrap)] // the columns show the signed halves as unsigned
    pub const fn from_pg_locks(classid: u32, objid: u32, objsubid: i16) -> Option<Self> {
        match objsubid {
            1 => Some(Self::new(((classid as i64) << 32) | objid as i64)),
            2 => Some(Self::pair(classid as i32, objid as i32)),
            _ => None,
        }
    }

    /// Returns the key as SQL.
    pub(crate) fn arguments(&self) -> Arguments {
        Arguments(*self)
    }

    /// Returns the column `pg_locks.classid`: the high half of a `bigint`, the first of a pair.
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // bits, as an oid shows them
    pub const fn classid(&self) -> u32 {
        match self.0 {
            Repr::Big(key) => (key as u64 >> 32) as u32,
            Repr::Pair(first, _) => first as u32,
        }
    }

    /// Returns the column `pg_locks.objid`: the low half of a `bigint`, the second of a pair.
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // bits, as an oid shows them
    pub const fn objid(&self) -> u32 {
        match self.0 {
            Repr::Big(key) => key as u64 as u32,
            Repr::Pair(_, second) => second as u32,
        }
    }

    /// Returns the column `pg_locks.objsubid`: 1 for a `bigint`, 2 for a pair.
    pub const fn objsubid(&self) -> i16 {
        match self.0 {
            Repr::Big(_) => 1,
            Repr::Pair(..) => 2,
        }
    }
}

/// The arguments of an advisory lock function, as SQL.
pub(crate) struct Arguments(AdvisoryKey);

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.0 {
            Repr::Big(key) => write!(f, "{key}"),
            Repr::Pair(first, second) => write!(f, "{first}, {second}"),
        }
    }
}

/// The name that this process made the key from, or else the number or the pair.
///
/// Control characters in a name are removed, and it is cut after 80 characters.
impl fmt::Display for AdvisoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Repr::Big(key) => key_names::name_of(key),
            Repr::Pair(..) => None,
        };
        match name {
            Some(name) => f.write_str(&name),
            None => self.arguments().fmt(f),
        }
    }
}

impl fmt::Debug for AdvisoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdvisoryKey({})", self.arguments())
    }
}

/// Serializes as a number, or as an array of two.
#[cfg(feature = "serde")]
impl serde::Serialize for AdvisoryKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Repr::Big(key) => key.serialize(serializer),
            Repr::Pair(first, second) => (first, second).serialize(serializer),
        }
    }
}

impl From<i64> for AdvisoryKey {
    fn from(key: i64) -> Self {
        Self::new(key)
    }
}

impl From<i32> for AdvisoryKey {
    fn from(key: i32) -> Self {
        Self::new(key.into())
    }
}

impl From<i16> for AdvisoryKey {
    fn from(key: i16) -> Self {
        Self::new(key.into())
    }
}

impl From<u32> for AdvisoryKey {
    fn from(key: u32) -> Self {
        Self::new(key.into())
    }
}

impl From<Cow<'_, str>> for AdvisoryKey {
    fn from(name: Cow<'_, str>) -> Self {
        Self::named(&name)
    }
}

impl From<(i32, i32)> for AdvisoryKey {
    fn from((first, second): (i32, i32)) -> Self {
        Self::pair(first, second)
    }
}

impl From<&str> for AdvisoryKey {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

impl From<&String> for AdvisoryKey {
    fn from(name: &String) -> Self {
        Self::named(name)
    }
}

impl From<String> for AdvisoryKey {
    fn from(name: String) -> Self {
        Self::named(&name)
    }
}

impl From<&AdvisoryKey> for AdvisoryKey {
    fn from(key: &AdvisoryKey) -> Self {
        *key
    }
}

/// Names an advisory lock after the module of the call.
///
/// `advisory_key!()` is `AdvisoryKey::named("crate::module")`, and
/// `advisory_key!("part")` is `AdvisoryKey::named("crate::module::part")`:
/// a default for locks that need no name outside the program. Renaming or
/// moving the module renames the lock.
///
/// # Examples
///
/// ```
/// mod jobs {
///     pub fn nightly() -> diesel_pglock::AdvisoryKey {
///         diesel_pglock::advisory_key!("nightly")
///     }
/// }
///
/// let name = concat!(module_path!(), "::jobs::nightly");
/// assert_eq!(jobs::nightly(), diesel_pglock::AdvisoryKey::named(name));
/// ```
#[macro_export]
macro_rules! advisory_key {
    () => {
        $crate::AdvisoryKey::named(::core::module_path!())
    };
    ($part:expr $(,)?) => {
        $crate::AdvisoryKey::named(&::std::format!("{}::{}", ::core::module_path!(), $part))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    impl AdvisoryKey {
        fn number(self) -> i64 {
            (i64::from(self.classid()) << 32) | i64::from(self.objid())
        }
    }

    #[test]
    fn a_name_is_the_same_lock_as_in_django_pglock() {
        let hello = AdvisoryKey::named("hello");
        assert_eq!((hello.classid(), hello.objid()), (245608543, 3125670444));
        assert_eq!(
            AdvisoryKey::named("my_lock_id"),
            AdvisoryKey::new(-3531142854575798568)
        );
    }

    #[test]
    fn a_key_is_shown_by_the_name_it_was_made_from() {
        let key = AdvisoryKey::named("nightly `report`");
        assert_eq!(key.to_string(), "nightly 'report'");
        assert_eq!(
            AdvisoryKey::new(key.number()).to_string(),
            "nightly 'report'"
        );
        assert_eq!(key.arguments().to_string(), key.number().to_string());
        assert_eq!(AdvisoryKey::new(77_001).to_string(), "77001");
        assert_eq!(AdvisoryKey::pair(1, -2).to_string(), "1, -2");
    }

    #[test]
    fn every_kind_of_number_and_text_is_a_key() {
        let name = String::from("hello");
        let texts = [
            AdvisoryKey::from("hello"),
            AdvisoryKey::from(&name),
            AdvisoryKey::from(Cow::Borrowed("hello")),
            AdvisoryKey::from(name),
        ];
        assert!(texts.iter().all(|key| *key == AdvisoryKey::named("hello")));
        assert_eq!(AdvisoryKey::from(-7_i16), AdvisoryKey::new(-7));
        assert_eq!(AdvisoryKey::from(u32::MAX), AdvisoryKey::new(4_294_967_295));
    }

    #[test]
    fn columns_are_unsigned() {
        let max = AdvisoryKey::new(i64::MAX);
        assert_eq!((max.classid(), max.objid()), (2147483647, 4294967295));
        let minus_one = AdvisoryKey::new(-1);
        assert_eq!(
            (minus_one.classid(), minus_one.objid()),
            (u32::MAX, u32::MAX)
        );
        let pair = AdvisoryKey::pair(-1, i32::MIN);
        assert_eq!((pair.classid(), pair.objid()), (u32::MAX, 1 << 31));
    }

    #[test]
    fn the_key_spaces_differ_in_objsubid_alone() {
        let (big, pair) = (AdvisoryKey::new(4294967298), AdvisoryKey::pair(1, 2));
        assert_eq!((big.classid(), big.objid()), (pair.classid(), pair.objid()));
        assert_eq!((big.objsubid(), pair.objsubid()), (1, 2));
    }

    #[test]
    fn columns_lead_back_to_the_key() {
        for key in [
            AdvisoryKey::new(i64::MIN),
            AdvisoryKey::new(-1),
            AdvisoryKey::new(1 << 40),
            AdvisoryKey::pair(-1, 1),
            AdvisoryKey::pair(i32::MIN, i32::MAX),
        ] {
            let back = AdvisoryKey::from_pg_locks(key.classid(), key.objid(), key.objsubid());
            assert_eq!(back, Some(key));
        }
        assert_eq!(AdvisoryKey::from_pg_locks(1, 2, 3), None);
    }
}
