//! Who holds a directory or a port: so that "already in use" names a process and not a riddle.

use std::net::SocketAddr;

/// A process in words: its id and its command line, as far as this user may see it.
pub(crate) fn process(pid: u32) -> String {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> =
        command.split(|&byte| byte == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
    if words.is_empty() { format!("process {pid}") } else { format!("process {pid} (`{}`)", words.join(" ")) }
}

/// The process that holds a port, where the system tells.
pub(crate) fn of_port(protocol: Protocol, address: SocketAddr) -> String {
    linux::port(protocol, address.port()).map_or_else(|| "another process".to_owned(), process)
}

/// Of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

/// `/proc` as Linux has it; elsewhere nothing is found in it.
mod linux {
    use std::fs;
    use std::path::Path;

    use super::Protocol;

    pub(super) fn port(protocol: Protocol, port: u16) -> Option<u32> {
        let tables = match protocol {
            Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
            Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        };
        let inodes: Vec<u64> = tables
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| table.lines().skip(1).filter_map(|line| inode(line, port)).collect::<Vec<_>>())
            .collect();
        let processes = fs::read_dir("/proc").ok()?;
        processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(|pid| holds(*pid, &inodes))
    }

    /// The socket of a line of the table, if it is bound to the port and not a connection of it.
    pub(super) fn inode(line: &str, port: u16) -> Option<u64> {
        let mut fields = line.split_whitespace();
        let (_, held) = fields.nth(1)?.rsplit_once(':')?;
        let (_, peer) = fields.next()?.rsplit_once(':')?;
        if u16::from_str_radix(held, 16).ok()? != port || peer != "0000" {
            return None;
        }
        // After both addresses: state, queues, timer, retransmits, uid, timeout, inode.
        fields.nth(6)?.parse().ok()
    }

    fn holds(pid: u32, inodes: &[u64]) -> bool {
        let Ok(files) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
            return false;
        };
        files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).any(|target| {
            let target = target.to_string_lossy();
            inodes.iter().any(|inode| target == format!("socket:[{inode}]"))
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let me = format!("process {} ", std::process::id());
        assert!(of_port(Protocol::Udp, udp.local_addr().unwrap()).starts_with(&me));
        assert!(of_port(Protocol::Tcp, tcp.local_addr().unwrap()).starts_with(&me));
    }

    #[test]
    fn a_port_that_nobody_holds_names_nobody() {
        assert_eq!(of_port(Protocol::Udp, ([127, 0, 0, 1], 1).into()), "another process");
    }

    #[test]
    fn a_line_of_the_table_reads() {
        let line =
            "  12: 0100007F:1CE8 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0";
        assert_eq!(linux::inode(line, 7400), Some(4711));
        assert_eq!(linux::inode(line, 7401), None);
    }
}
