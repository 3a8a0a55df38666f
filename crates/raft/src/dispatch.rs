//! Which message goes where, and what its term means. [Raft §5.1]

use quorate_transport::{NodeId, Outbox, Peer, Time};

use crate::message::Message;
use crate::raft::Raft;
use crate::types::NUMBER_MAX;

type Out<'a> = &'a mut Outbox<Raft>;

/// Those whose term is not simply to be followed.
fn is_of_elections(message: &Message) -> bool {
    matches!(
        message,
        Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::Vote { .. }
            | Message::Disowned { .. }
            | Message::Removed { .. }
            | Message::Fetch { .. }
            | Message::Fetched { .. }
    )
}

impl Raft {
    pub(crate) fn on_message(&mut self, now: Time, from: Peer, message: Message, out: Out<'_>) {
        // Those that come for every entry, where nothing is out of the ordinary, go straight on.
        match message {
            Message::Append { term, prev, prev_term, commit, views }
                if self.follows(from, term) && prev.0.max(commit.0) <= NUMBER_MAX =>
            {
                self.hear_leader(now);
                self.on_append(from.node, (prev, prev_term), commit, views, out);
            }
            Message::Commit { term, commit }
                if self.follows(from, term) && commit.0 <= NUMBER_MAX =>
            {
                self.hear_leader(now);
                self.learn_commit(commit, out);
                core::mem::forget(message); // it owns nothing: no walk through what others own
            }
            Message::Appended { term, matched } if term == self.term && self.is_at_ease(from) => {
                self.on_appended(now, from.node, matched, out);
                core::mem::forget(message);
            }
            other => self.on_any_message(now, from, other, out),
        }
    }

    #[inline(never)]
    fn on_any_message(&mut self, now: Time, from: Peer, message: Message, out: Out<'_>) {
        if !self.admits(from, &message, out) {
            return;
        }
        let from = from.node;
        if is_of_elections(&message) {
            self.on_election_message(now, from, message, out);
        } else {
            self.on_message_of_term(now, from, message, out);
        }
    }

    fn on_message_of_term(&mut self, now: Time, from: NodeId, message: Message, out: Out<'_>) {
        let term = message.term();
        if term > self.term {
            self.become_follower(now, term, out);
        }
        if term < self.term {
            return self.on_old_term(from, &message, out);
        }
        match message {
            Message::VoteReply { granted, .. } => self.on_vote_reply(now, from, granted, out),
            Message::Append { prev, prev_term, commit, views, .. } => {
                if self.follow(now, from, out) {
                    self.on_append(from, (prev, prev_term), commit, views, out);
                }
            }
            Message::Heartbeat { commit, round, .. } => {
                if self.follow(now, from, out) {
                    self.on_heartbeat(from, commit, round, out);
                }
            }
            Message::Commit { commit, .. } => {
                if self.follow(now, from, out) {
                    self.learn_commit(commit, out);
                }
            }
            Message::Snapshot { piece, .. } => {
                if self.follow(now, from, out) {
                    self.on_snapshot(from, *piece, out);
                }
            }
            Message::TimeoutNow { .. } => {
                if self.follow(now, from, out) && self.members().is_voter(self.node) {
                    self.become_candidate(now, true, out);
                }
            }
            Message::Appended { matched, .. } => self.on_appended(now, from, matched, out),
            Message::Conflict { prev, hint, hint_term, .. } => {
                self.on_conflict(now, from, prev, (hint, hint_term));
            }
            Message::HeartbeatReply { round, .. } => self.on_heartbeat_reply(now, from, round, out),
            Message::SnapshotReply { id, next, .. } => {
                self.on_snapshot_reply(now, from, id, next, out);
            }
            Message::Read { number, .. } => self.on_peer_read(now, from, number, out),
            Message::ReadReply { number, index, .. } => {
                self.on_read_reply(from, number, index, out);
            }
            Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::Vote { .. }
            | Message::Disowned { .. }
            | Message::Removed { .. }
            | Message::Fetch { .. }
            | Message::Fetched { .. } => {}
        }
    }

    /// Those whose term is not simply to be followed.
    #[cold]
    fn on_election_message(&mut self, now: Time, from: NodeId, message: Message, out: Out<'_>) {
        match message {
            Message::PreVote { term, last, last_term } => {
                self.on_pre_vote(now, from, term, (last, last_term), out);
            }
            Message::PreVoteReply { term, granted, ahead } => {
                self.on_pre_vote_reply(now, from, (term, granted, ahead), out);
            }
            Message::Vote { term, last, last_term, transfer } => {
                self.on_vote(now, from, term, (last, last_term), transfer, out);
            }
            Message::Fetch { at, at_term, .. } => self.on_fetch(now, from, at, at_term, out),
            Message::Fetched { offer, .. } => self.on_fetched(now, from, *offer, out),
            Message::Disowned { birth, lost, .. } => self.on_disowned(birth, lost, out),
            Message::Removed { commit, commit_term, .. } => {
                self.on_removed(now, (commit_term, commit), out);
            }
            _ => {}
        }
    }

    /// Whoever leads a former term, or follows its leader, is told so; anything else of one means
    /// nothing any more.
    fn on_old_term(&mut self, from: NodeId, message: &Message, out: Out<'_>) {
        if matches!(
            message,
            Message::Append { .. }
                | Message::Heartbeat { .. }
                | Message::Snapshot { .. }
                | Message::Read { .. }
        ) {
            let reply = Message::HeartbeatReply { term: self.term, round: 0 };
            out.send_after(self.vote_ticket, from, reply);
        }
    }
}
