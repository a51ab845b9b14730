//! A session without a client library: just enough of PostgreSQL's protocol.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use pglock_sandbox::Sandbox;

/// A superuser's session in the database `postgres`.
pub struct Session {
    stream: UnixStream,
    /// The process id of the server process that serves it.
    pub pid: u32,
}

/// The packet that begins a session.
pub fn startup_packet() -> Vec<u8> {
    let body = b"\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes(), &body[..]].concat()
}

/// Reads one message: its kind and its body.
pub fn read_message(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut body = vec![0; number(&head[1..]) as usize - 4];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}

impl Session {
    pub fn open(server: &Sandbox) -> Self {
        let socket = server
            .socket_dir()
            .join(format!(".s.PGSQL.{}", server.port()));
        let mut session = Self {
            stream: UnixStream::connect(socket).unwrap(),
            pid: 0,
        };
        session.stream.write_all(&startup_packet()).unwrap();
        let messages = session.read_until_ready();
        let key = messages.iter().find(|(kind, _)| *kind == b'K').unwrap();
        session.pid = number(&key.1[..4]);
        session
    }

    /// Runs a query and returns the first column of its first row.
    pub fn query(&mut self, sql: &str) -> Option<String> {
        let length = u32::try_from(sql.len() + 5).unwrap();
        let packet = [b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat();
        self.stream.write_all(&packet).unwrap();
        let messages = self.read_until_ready();
        let row = &messages.iter().find(|(kind, _)| *kind == b'D')?.1;
        let end = 6 + number(&row[2..6]) as usize;
        Some(String::from_utf8(row[6..end].to_vec()).unwrap())
    }

    fn read_until_ready(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        loop {
            match read_message(&mut self.stream) {
                (b'Z', _) => return messages,
                (b'E', error) => panic!("{}", String::from_utf8_lossy(&error)),
                message => messages.push(message),
            }
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}
