//! Batches of encoded events, cut into frames.

use bytes::Bytes;
use hither_protocol::Revision;
use hither_protocol::frame::Flags;
use hither_protocol::message::{Batch, op};

use super::spec::WatchFrame;

/// Bytes of a batch beside its events: three numbers of up to ten bytes and a flag.
pub(super) const ENVELOPE_BYTES: usize = 31;

/// The batch of `(from, to]`, in as many frames as `frame_bytes_max` asks for. Each event alone fits one.
pub(super) fn frames(
    from: Revision,
    to: Revision,
    folded: bool,
    events: &[Bytes],
    frame_bytes_max: usize,
) -> Vec<WatchFrame> {
    let mut frames = Vec::with_capacity(1);
    let mut rest = events;
    loop {
        let (now, later) = rest.split_at(fitting(rest, frame_bytes_max));
        let body = Batch::encode_parts(from, to, folded, now.len() as u64, now);
        let flags = if later.is_empty() { Flags::default() } else { Flags::MORE };
        frames.push(WatchFrame { op: op::BATCH, flags, body });
        rest = later;
        if rest.is_empty() {
            return frames;
        }
    }
}

/// How many events fit a frame; at least one, since what does not fit alone was made smaller where it was encoded.
fn fitting(events: &[Bytes], frame_bytes_max: usize) -> usize {
    let mut bytes = ENVELOPE_BYTES;
    let fit = events.iter().take_while(|event| {
        bytes += event.len();
        bytes <= frame_bytes_max
    });
    fit.count().max(events.len().min(1))
}
