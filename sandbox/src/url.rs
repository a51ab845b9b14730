//! Connection URLs that both libpq and tokio-postgres read.

use std::path::Path;

/// Returns a URL through the unix socket in `socket_dir`.
pub(crate) fn socket(socket_dir: &Path, port: u16, database: &str) -> String {
    let host = encode(&socket_dir.to_string_lossy());
    format!("postgres://postgres@{host}:{port}/{}", encode(database))
}

/// Returns a URL through the loopback port.
pub(crate) fn tcp(password: &str, port: u16, database: &str) -> String {
    format!(
        "postgres://postgres:{password}@127.0.0.1:{port}/{}",
        encode(database)
    )
}

/// Returns the URL with another database in its path, or `None` if the text is not a URL.
///
/// ```
/// use pglock_sandbox::with_database;
///
/// let url = with_database("postgres://ada@host:5433/app?sslmode=require", "other");
/// assert_eq!(url.as_deref(), Some("postgres://ada@host:5433/other?sslmode=require"));
/// ```
#[must_use]
pub fn with_database(url: &str, database: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let parameters = rest.split_once('?').map_or("", |(_, it)| it).split('&');
    // In libpq the parameter `dbname` precedes the path.
    let parameters = parameters.filter(|it| !it.is_empty() && !it.starts_with("dbname="));
    let query = match parameters.collect::<Vec<_>>().join("&") {
        query if query.is_empty() => query,
        query => format!("?{query}"),
    };
    let database = encode(database);
    Some(format!("{scheme}://{authority}/{database}{query}"))
}

/// Percent-encodes all characters except the unreserved characters of URLs.
fn encode(text: &str) -> String {
    text.bytes().map(encode_byte).collect()
}

fn encode_byte(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_url_carries_the_folder_as_its_host() {
        let url = socket(Path::new("/tmp/a b"), 5433, "täst/1");
        assert_eq!(url, "postgres://postgres@%2Ftmp%2Fa%20b:5433/t%C3%A4st%2F1");
    }

    #[test]
    fn the_database_is_put_in_where_there_was_none() {
        let put = |url| with_database(url, "b").unwrap();
        assert_eq!(put("postgres://h"), "postgres://h/b");
        assert_eq!(put("postgres://h/"), "postgres://h/b");
        assert_eq!(put("postgres:///?host=/tmp"), "postgres:///b?host=/tmp");
        assert_eq!(put("postgres://h?host=/tmp"), "postgres://h/b?host=/tmp");
        assert_eq!(put("postgres://h/a?dbname=c"), "postgres://h/b");
        assert_eq!(
            put("postgres://h/a?x=y&dbname=c&host=/tmp"),
            "postgres://h/b?x=y&host=/tmp"
        );
        assert_eq!(with_database("host=h dbname=a", "b"), None);
    }
}
