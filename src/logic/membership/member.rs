//! What is known about one member, and how two accounts of it are joined.
//!
//! A node writes its own description, versioned by (incarnation, version). That it joined, where it
//! stands and that it left are facts of the cluster: the node that ran the command adds them, and they stay.
//!
//! To have left the ring is not to be gone: a member that leaves owns nothing any more and serves what
//! it has until the new owners have it.

use super::parts::Parts;
use crate::logic::causal::ActorId;
use crate::logic::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::logic::placement::{NodeId, Place, Placed, key_hash};

/// The layout that this program writes. The first one ended with `left`, which meant gone; the second
/// did not say in which membership copies were proven, the third nothing of losses.
pub const MEMBER_VERSION: u8 = 4;
/// What [`encode_member_without_losses`] writes.
pub const MEMBER_WITHOUT_LOSSES: u8 = 3;
/// What [`encode_member_as_before`] writes.
pub const MEMBER_AS_BEFORE: u8 = 1;
/// Changes of one member's place that are taken from another node.
const MAX_PLACES: usize = 65_536;
/// The longest name, zone or address that is taken from another node.
const MAX_TEXT_LEN: usize = 255;

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub id: NodeId,
    /// Its name for people.
    pub name: String,
    /// Where other nodes reach it: `host:port`.
    pub peer_address: String,
    /// Where clients reach it: `host:port`.
    pub client_address: String,
    /// What fails together, as it is configured; placement goes by its places.
    pub zone: String,
    /// Its share of the data relative to the others', as it is configured.
    pub weight: u32,
    /// The actor of its present run.
    pub actor: ActorId,
    /// Raised at every start, and whenever the node hears something else about itself.
    pub incarnation: u64,
    /// Raised with every change within an incarnation.
    pub version: u64,
    /// The event at which it joined.
    pub joined: u64,
    /// The event from which it owns nothing: it leaves, was replaced or removed.
    pub left: Option<u64>,
    /// Whether it is no member any more.
    pub gone: bool,
    /// Whose places it took when it joined.
    pub replaces: Option<NodeId>,
    /// Where it stands, ascending by event: the first since it joined.
    pub places: Vec<Place>,
    /// The parts of which its copy is complete: what counts for reads. Nothing of a node that does not
    /// say so, because it is older: that one has whatever it owns.
    pub complete: Option<Parts>,
    /// The parts of which its copy has been proven, and counts when all other owners' have been too.
    pub proven: Parts,
    /// The changes of the membership that it knew then: a fingerprint.
    pub proven_as_of: u64,
    /// What it knows of parts of which nobody has a complete copy any more.
    pub losses: Losses,
    /// Whether it is about to stop, or has nothing any more that others need.
    pub state: State,
}

/// What a member knows of parts of which nobody has a complete copy any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Those of which it has seen the last complete copy go, or heard that somebody has.
    pub lost: Parts,
    /// The number of the latest of these losses: more than any that was known before.
    pub lost_at: u64,
    /// Those of which somebody has said that what is left is all there is.
    pub accepted: Parts,
    /// The number up to which losses are accepted.
    pub accepted_at: u64,
    /// Those of which it has what a person has put back: where nobody has more, that is all there is.
    pub restored: Parts,
}

impl Losses {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        [&self.lost, &self.accepted, &self.restored]
            .into_iter()
            .all(Parts::is_empty)
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for parts in [&self.lost, &self.accepted, &self.restored] {
            parts.encode(out);
        }
        put_varint(out, self.lost_at);
        put_varint(out, self.accepted_at);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [lost, accepted, restored] = [Parts::decode(r)?, Parts::decode(r)?, Parts::decode(r)?];
        let read = Self {
            lost,
            accepted,
            restored,
            lost_at: r.varint()?,
            accepted_at: r.varint()?,
        };
        // Numbers of nothing say nothing, and are not passed on.
        Ok(if read.is_empty() {
            Self::default()
        } else {
            read
        })
    }
}

/// What a member says of itself beside its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It runs.
    #[default]
    Runs,
    /// It is about to stop: others do its work from now on.
    Stops,
    /// It has left and holds nothing that others need.
    Drained,
    /// Both.
    DrainedAndStops,
}

impl State {
    /// Whether it is about to stop.
    pub fn stops(self) -> bool {
        matches!(self, State::Stops | State::DrainedAndStops)
    }

    /// Whether it holds nothing that others need.
    pub fn is_drained(self) -> bool {
        matches!(self, State::Drained | State::DrainedAndStops)
    }

    /// As one byte of the wire.
    pub fn as_u8(self) -> u8 {
        match self {
            State::Runs => 0,
            State::Stops => 1,
            State::Drained => 2,
            State::DrainedAndStops => 3,
        }
    }

    /// The state with these answers.
    pub fn new(stops: bool, is_drained: bool) -> Self {
        match (stops, is_drained) {
            (false, false) => State::Runs,
            (true, false) => State::Stops,
            (false, true) => State::Drained,
            (true, true) => State::DrainedAndStops,
        }
    }
}

/// Why an account of a member was not taken.
pub type MemberError = DecodeError;

impl Member {
    /// Whether it belongs to the cluster now, be it that it leaves.
    pub fn is_present(&self) -> bool {
        !self.gone
    }

    /// Whether it owns partitions.
    pub fn is_placed(&self) -> bool {
        self.left.is_none()
    }

    /// The host part of its peer address: members on one machine share it.
    pub fn machine(&self) -> &str {
        self.peer_address
            .rsplit_once(':')
            .map_or(&self.peer_address, |(host, _)| host)
    }

    /// Where it stands now: its zone and its weight.
    pub fn place(&self) -> (&str, u32) {
        let last = self.places.last();
        last.map_or((&self.zone, self.weight), |place| {
            (&place.zone, place.weight)
        })
    }

    /// As placement sees it.
    pub fn placed(&self) -> Placed {
        let (first, changes) = match self.places.split_first() {
            Some((first, changes)) => ((&first.zone, first.weight), changes.to_vec()),
            None => ((&self.zone, self.weight), Vec::new()),
        };
        Placed {
            id: self.id,
            machine: self.machine().to_owned(),
            zone: first.0.clone(),
            weight: first.1,
            joined: self.joined,
            left: self.left,
            replaces: self.replaces,
            changes,
        }
    }

    /// Joins with another account of the same member; whether that taught anything.
    pub fn join(&mut self, other: &Member) -> bool {
        let before = self.clone();
        if (other.incarnation, other.version) > (self.incarnation, self.version) {
            *self = other.clone();
        }
        self.take_facts(&before);
        self.take_facts(other);
        *self != before
    }

    /// Joins the cluster's facts about this member, and leaves its description alone.
    pub(super) fn take_facts(&mut self, other: &Member) {
        // 0 stands for a newcomer who does not know it yet.
        self.joined = match (self.joined, other.joined) {
            (0, known) | (known, 0) => known,
            (a, b) => a.min(b),
        };
        self.left = match (self.left, other.left) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.gone |= other.gone;
        self.replaces = self.replaces.max(other.replaces);
        if self.places != other.places {
            self.places.extend(other.places.iter().cloned());
            self.places.sort_unstable();
            // Two changes at one event, made apart: everybody takes the same.
            self.places.reverse();
            self.places.dedup_by_key(|place| place.at);
            self.places.reverse();
        }
    }

    /// Its copies are complete no more. What they were of, for who knows what follows from that.
    pub fn lose_everything(&mut self) -> Parts {
        let mut had = self.complete.take().unwrap_or_default();
        had.add(&std::mem::take(&mut self.proven));
        self.complete = Some(Parts::default());
        had
    }

    /// A fingerprint of the cluster's facts about this member.
    pub fn facts(&self) -> u64 {
        let mut raw = Vec::new();
        put_facts(&mut raw, self);
        key_hash(&raw)
    }
}

fn put_facts(out: &mut Vec<u8>, member: &Member) {
    for number in [member.joined, member.left.map_or(0, |at| at + 1)] {
        put_varint(out, number);
    }
    out.push(u8::from(member.gone));
    put_varint(out, member.replaces.map_or(0, |id| id.0));
    put_varint(out, member.places.len() as u64);
    for place in &member.places {
        put_varint(out, place.at);
        put_bytes(out, place.zone.as_bytes());
        put_varint(out, u64::from(place.weight));
    }
}

/// Writes a member down, for the disk and for other nodes.
pub fn encode_member(member: &Member) -> Vec<u8> {
    if member.losses.is_empty() {
        // So that a program that knows nothing of losses can be gone back to.
        return encode_member_without_losses(member);
    }
    let mut out = encode_as(MEMBER_VERSION, member);
    member.losses.encode(&mut out);
    out
}

/// Writes a member down for a node that knows nothing of losses.
pub fn encode_member_without_losses(member: &Member) -> Vec<u8> {
    encode_as(MEMBER_WITHOUT_LOSSES, member)
}

fn encode_as(version: u8, member: &Member) -> Vec<u8> {
    let mut out = head(version, member);
    put_facts(&mut out, member);
    out.push(member.state.as_u8());
    out.push(u8::from(member.complete.is_some()));
    if let Some(complete) = &member.complete {
        complete.encode(&mut out);
        member.proven.encode(&mut out);
        out.extend_from_slice(&member.proven_as_of.to_le_bytes());
    }
    out
}

/// Writes a member down for a node that speaks the wire version before: to it, who leaves has left.
pub fn encode_member_as_before(member: &Member) -> Vec<u8> {
    let mut out = head(MEMBER_AS_BEFORE, member);
    put_varint(&mut out, member.joined);
    put_varint(&mut out, member.left.map_or(0, |at| at + 1));
    out
}

fn head(version: u8, member: &Member) -> Vec<u8> {
    let mut out = vec![version];
    out.extend_from_slice(&member.id.0.to_le_bytes());
    out.extend_from_slice(&member.actor.0.to_le_bytes());
    for text in [
        &member.name,
        &member.peer_address,
        &member.client_address,
        &member.zone,
    ] {
        put_bytes(&mut out, text.as_bytes());
    }
    for number in [u64::from(member.weight), member.incarnation, member.version] {
        put_varint(&mut out, number);
    }
    out
}

/// Reads what [`encode_member`] or [`encode_member_as_before`] wrote.
pub fn decode_member(raw: &[u8]) -> Result<Member, MemberError> {
    let mut r = Reader(raw);
    let version = r.u8()?;
    if !(MEMBER_AS_BEFORE..=MEMBER_VERSION).contains(&version) {
        return Err(DecodeError::Version(version));
    }
    let (id, actor) = (NodeId(r.u64_le()?), ActorId(r.u64_le()?));
    let (name, peer_address) = (read_text(&mut r)?, read_text(&mut r)?);
    let (client_address, zone) = (read_text(&mut r)?, read_text(&mut r)?);
    let weight = read_weight(&mut r)?;
    let (incarnation, description) = (r.varint()?, r.varint()?);
    let (joined, left) = (r.varint()?, r.varint()?.checked_sub(1));
    let mut member = Member {
        id,
        name,
        peer_address,
        client_address,
        zone,
        weight,
        actor,
        incarnation,
        version: description,
        joined,
        left,
        gone: left.is_some(),
        replaces: None,
        places: Vec::new(),
        complete: None,
        proven: Parts::default(),
        proven_as_of: 0,
        losses: Losses::default(),
        state: State::Runs,
    };
    if version > MEMBER_AS_BEFORE {
        read_more(&mut r, version, &mut member)?;
    }
    if !r.0.is_empty() {
        return Err(DecodeError::Malformed);
    }
    Ok(member)
}

fn read_more(r: &mut Reader<'_>, version: u8, member: &mut Member) -> Result<(), MemberError> {
    member.gone = r.u8()? != 0;
    member.replaces = Some(NodeId(r.varint()?)).filter(|id| id.0 != 0);
    let count = r.count(3)?;
    if count > MAX_PLACES {
        return Err(DecodeError::Malformed);
    }
    for _ in 0..count {
        member.places.push(Place {
            at: r.varint()?,
            zone: read_text(r)?,
            weight: read_weight(r)?,
        });
    }
    member.state = match r.u8()? {
        0 => State::Runs,
        1 => State::Stops,
        2 => State::Drained,
        3 => State::DrainedAndStops,
        _ => return Err(DecodeError::Malformed),
    };
    if r.u8()? != 0 {
        member.complete = Some(Parts::decode(r)?);
        member.proven = Parts::decode(r)?;
        if version >= MEMBER_WITHOUT_LOSSES {
            member.proven_as_of = r.u64_le()?;
        }
    }
    if version == MEMBER_VERSION {
        member.losses = Losses::decode(r)?;
    }
    Ok(())
}

fn read_text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = r.bytes()?;
    if bytes.len() > MAX_TEXT_LEN {
        return Err(DecodeError::Malformed);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed)
}

fn read_weight(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    u32::try_from(r.varint()?).map_err(|_| DecodeError::Malformed)
}
