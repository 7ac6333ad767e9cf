//! What one node asks another, in families.

use super::command::Command;
use super::exchange::ExchangeRequest;
use super::fields::finish;
use super::keys::KeyRequest;
use super::keyspace::KeySpaceRequest;
use super::membership::MembershipRequest;
use super::news::News;
use super::transfer::TransferRequest;
use super::version::{COLLECTIONS, DOUBTS, ELEMENTS, GROUPS, NEWEST, NEWS, STREAMS, VIEWS};
use crate::logic::causal::{Element, Kind};
use crate::logic::codec::{DecodeError, Reader};
use crate::logic::record;

/// Databases from here on are of the nodes' own, since wire version 10.
const FIRST_OWN_DATABASE: u8 = 16;
/// The kind of a forwarded command.
const FORWARD: u8 = 6;

/// What one node asks another. Each family has its own enum, its own file, and one place where it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Membership, and what members say of themselves.
    Membership(MembershipRequest),
    /// One key's copies.
    Key(KeyRequest),
    /// A client's command, for its coordinator.
    Forward(Command),
    /// The whole key space.
    KeySpace(KeySpaceRequest),
    /// Comparing and mending copies.
    Exchange(ExchangeRequest),
    /// Parts that move.
    Transfer(TransferRequest),
    /// What all are told.
    News(News),
}

impl From<News> for Request {
    fn from(news: News) -> Self {
        Request::News(news)
    }
}

impl From<MembershipRequest> for Request {
    fn from(request: MembershipRequest) -> Self {
        Request::Membership(request)
    }
}

impl From<KeyRequest> for Request {
    fn from(request: KeyRequest) -> Self {
        Request::Key(request)
    }
}

impl From<KeySpaceRequest> for Request {
    fn from(request: KeySpaceRequest) -> Self {
        Request::KeySpace(request)
    }
}

impl From<ExchangeRequest> for Request {
    fn from(request: ExchangeRequest) -> Self {
        Request::Exchange(request)
    }
}

impl From<TransferRequest> for Request {
    fn from(request: TransferRequest) -> Self {
        Request::Transfer(request)
    }
}

impl Request {
    /// Whether the wire version before knew it.
    fn is_old(&self) -> bool {
        !matches!(
            self,
            Request::Transfer(_)
                | Request::Membership(MembershipRequest::Describe | MembershipRequest::Transfers)
        )
    }

    /// Whether it is about the database behind those that clients select: who does not know it takes it for
    /// another.
    fn is_of_own_database(&self) -> bool {
        match self {
            Request::Forward(command) => command.db >= FIRST_OWN_DATABASE,
            Request::Key(KeyRequest::Apply { key, .. } | KeyRequest::Fetch { key, .. }) => {
                key.db >= FIRST_OWN_DATABASE
            }
            Request::Key(KeyRequest::ApplyAll { deltas, .. }) => {
                let mut deltas = deltas.iter();
                deltas.any(|(_, delta)| delta.db >= FIRST_OWN_DATABASE)
            }
            Request::Exchange(ExchangeRequest::Merge(objects)) => {
                objects.iter().any(|(key, _)| key.db >= FIRST_OWN_DATABASE)
            }
            _ => false,
        }
    }

    /// Whether some bytes are those of a forwarded command.
    pub(in crate::peer) fn is_forward(raw: &[u8]) -> bool {
        raw.first() == Some(&FORWARD)
    }

    /// Whether it carries objects of some sort.
    fn carries(&self, is_of_sort: impl Fn(&[u8]) -> bool) -> bool {
        match self {
            Request::Key(KeyRequest::Apply { object, .. }) => is_of_sort(object),
            Request::Key(KeyRequest::ApplyAll { deltas, .. }) => {
                deltas.iter().any(|(_, delta)| is_of_sort(delta.object))
            }
            Request::Exchange(ExchangeRequest::Merge(objects)) => {
                objects.iter().any(|(_, object)| is_of_sort(object))
            }
            _ => false,
        }
    }

    /// Whether it is about elements of streams: what only removes some has no others.
    fn touches_streams(&self) -> bool {
        let is_stream = |element: &Element| element.kind.shown() == Kind::Stream;
        let touches = |touched: &Option<Vec<Element>>| {
            touched
                .as_ref()
                .is_some_and(|all| all.iter().any(is_stream))
        };
        match self {
            Request::Key(KeyRequest::Apply { touched, .. }) => touches(touched),
            Request::Key(KeyRequest::ApplyAll { deltas, .. }) => {
                deltas.iter().any(|(_, delta)| touches(&delta.touched))
            }
            _ => false,
        }
    }

    /// The bytes of a request for a node that speaks an older version; `None` where it does not know it.
    pub(in crate::peer) fn translate(raw: &[u8], wire: u16) -> Option<Vec<u8>> {
        let request = Self::decode(raw, NEWEST).ok()?;
        // Nor may it run again what it would take for new.
        let is_repeated = matches!(&request, Request::Forward(command) if command.since.is_some());
        let has_new_rows = || request.carries(|object| record::WIRE.is_full(object));
        if wire < DOUBTS && (is_repeated || has_new_rows()) {
            return None;
        }
        if wire < COLLECTIONS && request.carries(|object| record::WIRE.is_collection(object)) {
            return None;
        }
        if wire < STREAMS && matches!(request, Request::News(News::ForgetFunctions)) {
            return None;
        }
        if wire < STREAMS
            && (request.carries(|object| record::WIRE.is_stream(object))
                || request.touches_streams())
        {
            return None;
        }
        if wire < NEWS && (matches!(request, Request::News(_)) || request.is_of_own_database()) {
            return None;
        }
        if wire < GROUPS && matches!(request, Request::Key(KeyRequest::ApplyAll { .. })) {
            return None;
        }
        if wire < ELEMENTS && request.carries(|object| record::WIRE.is_wide(object)) {
            return None;
        }
        let mut out = Vec::new();
        request.encode(wire, &mut out);
        (wire >= VIEWS || request.is_old()).then_some(out)
    }

    /// Appends the kind and the fields, as a wire version has them.
    pub fn encode(&self, wire: u16, out: &mut Vec<u8>) {
        match self {
            Request::Membership(request) => request.encode(wire, out),
            Request::Key(request) => request.encode(wire, out),
            Request::Forward(command) => {
                out.push(FORWARD);
                command.encode(wire, out);
            }
            Request::KeySpace(request) => request.encode(wire, out),
            Request::Exchange(request) => request.encode(wire, out),
            Request::Transfer(request) => request.encode(wire, out),
            Request::News(news) => news.encode(out),
        }
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When it is no request of this version.
    pub fn decode(raw: &[u8], wire: u16) -> Result<Self, DecodeError> {
        let mut r = Reader(raw);
        let kind = r.u8()?;
        let request = Self::of_kind(kind, &mut r, wire)?;
        finish(&r, request)
    }

    fn of_kind(kind: u8, r: &mut Reader<'_>, wire: u16) -> Result<Self, DecodeError> {
        if kind == FORWARD {
            return Command::decode(r, wire).map(Request::Forward);
        }
        if let Some(request) = KeyRequest::decode(kind, r, wire)? {
            return Ok(Request::Key(request));
        }
        if let Some(request) = MembershipRequest::decode(kind, r, wire)? {
            return Ok(Request::Membership(request));
        }
        if let Some(request) = KeySpaceRequest::decode(kind, r, wire)? {
            return Ok(Request::KeySpace(request));
        }
        if let Some(request) = ExchangeRequest::decode(kind, r, wire)? {
            return Ok(Request::Exchange(request));
        }
        if let Some(news) = News::decode(kind, r)? {
            return Ok(Request::News(news));
        }
        let request = TransferRequest::decode(kind, r, wire)?;
        request.map(Request::Transfer).ok_or(DecodeError::Malformed)
    }
}
