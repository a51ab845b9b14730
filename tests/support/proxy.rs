//! A proxy between a client and the server, whose network fails at any moment.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// The state of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Works,
    /// No byte arrives any more, and no error.
    IsSilent,
    /// Connections are closed in order.
    Closes,
    /// Connections are reset: the client's request is lost.
    Resets,
}

/// A proxy to a port of this machine. Its connections end with this value.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    network: Mutex<Network>,
    is_over: AtomicBool,
}

/// The time between two looks at sockets that have nothing to read.
const TICK: Duration = Duration::from_micros(300);

impl Proxy {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            network: Mutex::new(Network::Works),
            is_over: AtomicBool::new(false),
        });
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            shared: Arc::clone(&shared),
        };
        spawn(move || accept(&listener, port, &shared));
        proxy
    }

    pub fn set(&self, network: Network) {
        *self.shared.network.lock().unwrap() = network;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn network(&self) -> Network {
        *self.network.lock().unwrap()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, port: u16, shared: &Arc<Shared>) {
    while !shared.is_over() {
        let Ok((client, _)) = listener.accept() else {
            sleep(TICK);
            continue;
        };
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let shared = Arc::clone(shared);
        spawn(move || serve(client, server, &shared));
    }
}

/// Passes bytes on in both directions until one side, or the network, closes.
fn serve(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
    for stream in [&client, &server] {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
    }
    while !shared.is_over() {
        let passed = match shared.network() {
            Network::Works => {
                let (there, back) = (
                    pass(&mut client, &mut server),
                    pass(&mut server, &mut client),
                );
                there.and_then(|there| Some(there || back?))
            }
            Network::IsSilent => Some(false),
            Network::Closes => None,
            // A socket with unread bytes is reset when it is closed.
            Network::Resets if client.peek(&mut [0]).is_ok() => return,
            Network::Resets => pass(&mut server, &mut client),
        };
        match passed {
            Some(true) => {}
            Some(false) => sleep(TICK),
            None => break,
        }
    }
    // A socket without unread bytes is closed in order.
    let _ = client.read(&mut [0; 4096]);
}

/// Passes on what has arrived. Returns whether something has; `None` if the stream has ended.
fn pass(from: &mut TcpStream, to: &mut TcpStream) -> Option<bool> {
    let mut bytes = [0; 4096];
    match from.read(&mut bytes) {
        Ok(0) => None,
        Ok(count) => write(to, &bytes[..count]).then_some(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(false),
        Err(_) => None,
    }
}

fn write(to: &mut TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(TICK),
            Err(_) => return false,
        }
    }
    true
}
