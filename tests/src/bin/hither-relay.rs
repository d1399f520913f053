//! `hither-relay SERVER [LISTEN]`: the relay as a program, for demonstrations. Reads a word a line: `cut`, `heal`,
//! `rebind`, `loss 0.1`, `server ADDRESS`, `counts`. Ends with its input.

use std::io::{BufRead, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use hither_tests::relay::Relay;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().context("usage: hither-relay SERVER [LISTEN]")?;
    let server: SocketAddr = server.parse().with_context(|| format!("{server} is not an address"))?;
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let listen: SocketAddr = listen.parse().with_context(|| format!("{listen} is not an address"))?;
    let relay = Relay::start_on(listen, server, 1).with_context(|| format!("cannot listen on {listen}"))?;
    say(&format!("relay {} -> {server}", relay.addr()))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match obey(&relay, &line) {
            Ok(answer) => say(&answer)?,
            Err(error) => say(&format!("error: {error:#}"))?,
        }
    }
    Ok(())
}

fn obey(relay: &Relay, line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let word = words.next().unwrap_or_default();
    match (word, words.next()) {
        ("cut", None) => relay.cut(),
        ("heal", None) => relay.heal(),
        ("rebind", None) => relay.rebind(),
        ("loss", Some(share)) => {
            let share = share.parse().context("the share is a number from 0 to 1")?;
            relay.rules_both(|rules| rules.loss = share);
        }
        ("server", Some(address)) => relay.set_server(address.parse().context("not an address")?),
        ("counts", None) => return Ok(format!("{:?}", relay.counts())),
        _ => bail!("the words are cut, heal, rebind, loss SHARE, server ADDRESS, counts"),
    }
    Ok(format!("ok {word}"))
}

/// One line, at once: whoever drives this waits for it.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
