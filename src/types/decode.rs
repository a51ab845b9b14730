//! Values of SQL types that Diesel cannot read without more dependencies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::{Binary, Inet, Nullable, Oid, SqlType, Text, is_nullable};

use crate::tables::sql_types::Xid;

// An xid travels as an oid does: four bytes, unsigned.

impl FromSql<Xid, Pg> for u32 {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        <u32 as FromSql<Oid, Pg>>::from_sql(value)
    }
}

/// A text that may come from a database of another encoding: the server hands its
/// bytes on as they are. Bytes that are not UTF-8 are replaced by U+FFFD, because one such text
/// must not hide all the others.
#[derive(Debug, PartialEq, FromSqlRow)]
pub struct LossyText<T>(T);

impl From<LossyText<String>> for String {
    fn from(text: LossyText<Self>) -> Self {
        text.0
    }
}

impl From<LossyText<Option<String>>> for Option<String> {
    fn from(text: LossyText<Self>) -> Self {
        text.0
    }
}

impl FromSql<Text, Pg> for LossyText<String> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(String::from_utf8_lossy(value.as_bytes()).into_owned()))
    }
}

impl FromSql<Binary, Pg> for LossyText<String> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        <Self as FromSql<Text, Pg>>::from_sql(value)
    }
}

impl<ST> FromSql<Nullable<ST>, Pg> for LossyText<Option<String>>
where
    ST: SqlType<IsNull = is_nullable::NotNull>,
    LossyText<String>: FromSql<ST, Pg>,
{
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Some(LossyText::<String>::from_sql(value)?.0)))
    }

    fn from_nullable_sql(value: Option<PgValue<'_>>) -> deserialize::Result<Self> {
        value.map_or(Ok(Self(None)), Self::from_sql)
    }
}

/// A client's address; `None` on a unix socket and where the role may not look.
///
/// The trait `FromSql` may not be written for `IpAddr` here: neither is ours.
#[derive(Debug, PartialEq, FromSqlRow)]
pub struct ClientAddress(Option<IpAddr>);

impl From<ClientAddress> for Option<IpAddr> {
    fn from(address: ClientAddress) -> Self {
        address.0
    }
}

impl FromSql<Nullable<Inet>, Pg> for ClientAddress {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let address = address(value.as_bytes()).ok_or("no address in an inet")?;
        Ok(Self(Some(address)))
    }

    fn from_nullable_sql(value: Option<PgValue<'_>>) -> deserialize::Result<Self> {
        value.map_or(Ok(Self(None)), Self::from_sql)
    }
}

/// Reads an `inet`: family, prefix length, a flag, the number of bytes, and these.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let bytes = bytes.get(4..)?;
    let v4 = || <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).into());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).into());
    v4().or_else(|_| v6()).ok()
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn both_families_are_read_and_rubbish_is_not() {
        assert_eq!(
            address(&[2, 32, 0, 4, 127, 0, 0, 1]),
            "127.0.0.1".parse().ok()
        );
        let mut v6 = vec![3, 128, 0, 16];
        v6.extend([0; 15]);
        v6.push(1);
        assert_eq!(address(&v6), "::1".parse().ok());
        assert_eq!(address(&[2, 32, 0]), None);
        assert_eq!(address(&[2, 32, 0, 2, 1, 2]), None);
    }
}
