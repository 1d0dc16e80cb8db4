//! What the machine's files open is open, and nothing else.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::harness::Outcome;
use crate::process::wait_for;
use crate::world::{A, CLOSED_PORT, OPEN_PORT, World};

pub fn open_ports_answer_and_closed_ones_do_not(world: &mut World) -> Result<Outcome> {
    let a = world.machine_a()?;
    for port in [OPEN_PORT, CLOSED_PORT] {
        // Asked for inside the guest first: a port with nobody behind it is closed by any firewall.
        let listen = format!(
            r#"
systemctl reset-failed e2e-{port}.service 2>/dev/null
systemd-run --quiet --unit=e2e-{port} "$(command -v systemd-socket-activate)" --accept --inetd -l 0.0.0.0:{port} "$(command -v echo)" here-is-{port} || exit
for _ in $(seq 50); do
  if exec 3<>/dev/tcp/127.0.0.1/{port}; then cat <&3; exit; fi 2>/dev/null
  sleep 0.2
done
exit 1"#
        );
        let inside = world.guest_root(A, &listen)?.ok()?;
        ensure!(inside.text() == format!("here-is-{port}"), "inside the guest port {port} says\n{inside}");
    }
    let open = wait_for(Duration::from_secs(10), || Ok(said(a.address, OPEN_PORT)))?;
    let closed = said(a.address, CLOSED_PORT);
    world.guest_root(A, &format!("systemctl stop e2e-{OPEN_PORT} e2e-{CLOSED_PORT}"))?;
    ensure!(open.as_deref() == Some("here-is-8080\n"), "from the host, open port {OPEN_PORT} says {open:?}");
    ensure!(closed.is_none(), "from the host, closed port {CLOSED_PORT} says {closed:?}");
    Ok(Outcome::Passed)
}

/// Returns what a port says to whoever connects; `None` if there is no connection.
fn said(address: IpAddr, port: u16) -> Option<String> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    let mut text = String::new();
    // What came before a time-out counts as well.
    let _ = stream.read_to_string(&mut text);
    Some(text)
}
