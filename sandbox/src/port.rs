//! Ports on the loopback address.

use std::net::{Ipv4Addr, TcpListener};

use crate::SandboxError;
use crate::error::During;

/// Returns a free port, which another process may take before it is used.
pub(crate) fn free() -> Result<u16, SandboxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.during(|| "find a free port".to_owned())?.port())
}

/// Returns `true` if no process listens on a port.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
