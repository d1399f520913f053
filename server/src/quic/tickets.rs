//! Session tickets (RFC 8446, section 4.6.1): with one, a client comes back without either side signing anything again.
//!
//! The server keeps nothing of them: what it has to know is in the ticket, sealed with a key that is derived from what the
//! node keeps on disk. So ten thousand clients of a node that was restarted do not cost ten thousand signatures. Who they
//! are, and whether they may still come in, is checked each time; keys are agreed on anew each time too.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::Prk;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

use crate::identity::now;

/// How long one key seals. A ticket is good until the end of the next period.
const PERIOD_SECONDS: u32 = 6 * 60 * 60;
const PERIOD_BYTES: usize = 4;
/// Longer than any ticket that was given out: a certificate of this cluster has a few hundred bytes.
const TICKET_BYTES_MAX: usize = 8 * 1024;

/// Makes and opens tickets.
pub(super) struct Tickets {
    secret: Prk,
    /// The period that it is.
    period: fn() -> u32,
}

impl Tickets {
    pub(super) const fn new(secret: Prk) -> Self {
        Self { secret, period: current }
    }

    /// The key of a period, and what is authenticated with a ticket.
    fn key(&self, period: u32) -> Option<(LessSafeKey, Aad<[u8; PERIOD_BYTES]>)> {
        let name = period.to_be_bytes();
        let info = [&name[..]];
        let derived = self.secret.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some((LessSafeKey::new(UnboundKey::from(derived)), Aad::from(name)))
    }
}

fn current() -> u32 {
    u32::try_from(now().0 / 1_000 / u64::from(PERIOD_SECONDS)).unwrap_or(u32::MAX)
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        2 * PERIOD_SECONDS
    }

    /// Period, nonce, sealed text and its tag.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let period = (self.period)();
        let (key, authenticated) = self.key(period)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), authenticated, &mut sealed).ok()?;
        let ticket = [&period.to_be_bytes(), &nonce[..], &sealed].concat();
        (ticket.len() <= TICKET_BYTES_MAX).then_some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (period, rest) = ticket.split_first_chunk()?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        let period = u32::from_be_bytes(*period);
        let is_good = (self.period)().checked_sub(period).is_some_and(|age| age <= 1);
        let (key, authenticated) = self.key(period).filter(|_| is_good)?;
        let mut opened = sealed.to_vec();
        let length = key.open_in_place(Nonce::assume_unique_for_key(*nonce), authenticated, &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(key: u8, period: fn() -> u32) -> Tickets {
        let secret = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, b"test").extract(&[key]);
        Tickets { secret, period }
    }

    #[test]
    fn a_ticket_is_good_for_this_period_and_the_next_whichever_process_gave_it_out() {
        let ticket = tickets(1, || 7).encrypt(b"who").expect("a ticket");
        for (period, opened) in [(|| 6) as fn() -> u32, || 7, || 8, || 9].into_iter().zip([false, true, true, false]) {
            assert_eq!(tickets(1, period).decrypt(&ticket).as_deref(), opened.then_some(&b"who"[..]));
        }
    }

    #[test]
    fn a_ticket_of_another_node_or_one_that_was_changed_is_none() {
        let ticket = tickets(1, || 7).encrypt(b"who").expect("a ticket");
        assert_eq!(tickets(2, || 7).decrypt(&ticket), None);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets(1, || 7).decrypt(&changed), None, "byte {at}");
            assert_eq!(tickets(1, || 7).decrypt(&ticket[..at]), None, "{at} bytes");
        }
    }
}
