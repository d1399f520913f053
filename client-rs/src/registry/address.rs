//! The address that others reach this machine at.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use hither_client_core::{Endpoint, Error};
use hither_protocol::ErrorCode;

/// The address of this machine from which the way to a server begins: what reaches the server reaches those who ask it.
/// Loopback, if the server is on this machine. Nothing is sent.
pub(super) async fn own(servers: &[Endpoint]) -> Result<String, Error> {
    let mut last = None;
    for server in servers {
        let addresses = match tokio::net::lookup_host((server.host.as_str(), server.port)).await {
            Ok(addresses) => addresses,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        for address in addresses {
            match towards(address) {
                Ok(own) => return Ok(own.ip().to_string()),
                Err(error) => last = Some(error),
            }
        }
    }
    let detail = "no own address was found on the way to a server: name it with .address(...)";
    Err(match last {
        Some(error) => Error::caused_by(ErrorCode::InvalidArgument, format!("{detail} ({error})"), error),
        None => Error::new(ErrorCode::InvalidArgument, detail),
    })
}

fn towards(server: SocketAddr) -> std::io::Result<SocketAddr> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn towards_a_server_on_this_machine_it_is_loopback() {
        let server = |text: &str| text.parse::<Endpoint>().expect("an endpoint");
        assert_eq!(own(&[server("127.0.0.1:7400")]).await.expect("found"), "127.0.0.1");
        let unknown = server("no-such-host.invalid:1");
        assert_eq!(own(&[unknown.clone(), server("127.0.0.1:1")]).await.expect("the second"), "127.0.0.1");
        assert_eq!(own(&[unknown]).await.expect_err("nowhere").code(), ErrorCode::InvalidArgument);
    }
}
