//! Frames off the wire, each to where it belongs.

use hither_protocol::codec::{Frame, Message, decode};
use hither_protocol::error::Refusal;
use hither_protocol::frame::Flags;
use hither_protocol::message::{
    Batch, Beat, Created, End, GoAway, KeepAliveReply, ResetPage, SnapshotPage, SubscribeRefused, Welcome, op,
};
use hither_protocol::{ErrorCode, Moment, codec};

use super::Core;
use crate::error::Error;
use crate::link::{LinkId, Phase};
use hither_protocol::error::CloseCode;

impl Core {
    /// A frame came, on whichever stream of the connection. Those of connections that were given up are ignored.
    pub fn handle_frame(&mut self, now: Moment, link: LinkId, frame: &Frame) {
        self.take_frame(now, link, frame);
        self.settle(now);
    }

    /// Several frames came. What they lead to beyond themselves is put off until
    /// [`handle_timeout`](Self::handle_timeout), which is owed at once, but once for all streams that had something.
    pub fn take_frames(&mut self, now: Moment, link: LinkId, frames: &[Frame]) {
        for frame in frames {
            self.take_frame(now, link, frame);
        }
    }

    fn take_frame(&mut self, now: Moment, id: LinkId, frame: &Frame) {
        if self.is_closed() {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        link.heard = now;
        if !link.is_open() {
            self.greet(now, id, frame);
            return;
        }
        let more = frame.header.flags.has(Flags::MORE);
        let watch = frame.header.id;
        let understood = match frame.header.op {
            op::KEEP_ALIVE_REPLY => read::<KeepAliveReply>(frame).map(|reply| self.handle_keep_alive_reply(id, &reply)),
            op::BEAT => read::<Beat>(frame).map(|beat| self.handle_beat(now, id, &beat)),
            op::GO_AWAY => read::<GoAway>(frame).map(|_| self.handle_go_away(now, id)),
            op::SUBSCRIBE_REFUSED => {
                read::<SubscribeRefused>(frame).map(|refused| self.handle_subscribe_refused(now, id, refused))
            }
            op::CREATED => read::<Created>(frame).map(|created| self.handle_created(id, watch, &created)),
            op::SNAPSHOT => read::<SnapshotPage>(frame).map(|page| self.handle_snapshot(now, id, watch, page, more)),
            op::BATCH => read::<Batch>(frame).map(|batch| self.handle_batch(now, id, watch, batch, more)),
            op::RESET => read::<ResetPage>(frame).map(|page| self.handle_reset(now, id, watch, page, more)),
            op::END => read::<End>(frame).map(|end| self.handle_end(now, id, watch, end.reason)),
            reply if reply & op::REPLY != 0 => {
                self.handle_reply(now, id, frame);
                Ok(())
            }
            // A newer server may say more than this version understands.
            _ => Ok(()),
        };
        if let Err(refusal) = understood {
            self.broken(now, id, &refusal);
        }
    }

    /// Before the greeting only the greeting counts.
    fn greet(&mut self, now: Moment, id: LinkId, frame: &Frame) {
        let greeting = self.links.get(&id).is_some_and(|link| matches!(link.phase, Phase::Greeting { .. }));
        if !greeting {
            return;
        }
        match frame.header.op {
            op::WELCOME => match read::<Welcome>(frame) {
                Ok(welcome) => self.handle_welcome(now, id, welcome),
                Err(refusal) => self.broken(now, id, &refusal),
            },
            op::ERROR => {
                let refusal = codec::decode_body::<Refusal>(&frame.body).unwrap_or_else(|refusal| refusal);
                self.refused(now, id, Error::from(refusal));
            }
            _ => {}
        }
    }

    fn refused(&mut self, now: Moment, id: LinkId, error: Error) {
        let Some(endpoint) = self.links.get(&id).map(|link| link.endpoint.clone()) else { return };
        self.hang_up(id, CloseCode::Moved);
        self.lost_attempt(now, &endpoint, error);
    }

    /// What a server sends cannot be read: with it there is no going on.
    fn broken(&mut self, now: Moment, id: LinkId, refusal: &Refusal) {
        let Some(link) = self.links.get(&id) else { return };
        let detail = format!("what {} sends cannot be read: {}", link.endpoint, refusal.detail);
        let error = Error::new(ErrorCode::ConnectionLost, detail);
        self.actions.push_back(super::Action::Hangup { link: id, code: CloseCode::MalformedFrame });
        self.drop_link(now, id, error);
    }
}

fn read<M: Message>(frame: &Frame) -> Result<M, Refusal> {
    decode(frame)
}
