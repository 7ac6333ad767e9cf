//! Objects of which not all elements are at hand, and what is told of those all the same (see [`super::rest`]).

use super::object::Object;
use super::rest::Rest;
use super::version::{Element, Kind, Payload, Version, Versions};

impl Object {
    /// The same, with elements that are not at hand.
    #[must_use]
    pub fn with_rest(mut self, rest: Rest) -> Self {
        self.rest = (rest.elements() > 0 || rest.is_counted()).then(|| Box::new(rest));
        self
    }

    /// What is known of elements that are not at hand.
    pub fn rest(&self) -> Option<&Rest> {
        self.rest.as_deref()
    }

    /// Whether all its elements are at hand.
    pub fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// Whether what is known of the elements that are not at hand tells all that is asked of them: they are of
    /// one type, none was reclaimed, and none may have outlived the key's end.
    pub fn is_plain_about_its_rest(&self) -> bool {
        let Some(rest) = &self.rest else { return true };
        let ends = self.versions(&Element::EXPIRY).iter();
        let mut ends = ends.filter_map(|end| end.value.expires_at_ms);
        rest.gone == 0
            && rest.all_there() == rest.elements()
            && !self.has_several_kinds()
            && ends.all(|end| end >= rest.latest.ms())
    }

    /// The elements of a type, of whatever kind.
    pub fn cells_shown_as(&self, kind: Kind) -> impl Iterator<Item = &(Element, Versions)> {
        let cells = self.cells.iter();
        cells.filter(move |(e, _)| e.kind.shown() == kind)
    }

    /// Whether values of several types live here at once.
    pub fn has_several_kinds(&self) -> bool {
        let is_there = |(element, versions): &&(Element, Versions)| {
            element.kind != Kind::Expiry && versions.iter().any(Version::is_there)
        };
        let kind = |(element, _): &(Element, Versions)| element.kind.shown();
        let mut there = self.cells.iter().filter(is_there);
        let first = there.next().map(kind);
        // Kinds ascend.
        let last = there.next_back().map(kind).or(first);
        let Some(rest) = self.rest() else {
            return first != last;
        };
        let kinds = rest.kinds().map(Kind::shown);
        let mut kinds = kinds.chain(first).chain(last);
        let one = kinds.next();
        kinds.any(|kind| Some(kind) != one)
    }

    /// The lowest type of what is there.
    pub fn first_kind(&self) -> Option<Kind> {
        let is_there = |(element, versions): &&(Element, Versions)| {
            element.kind != Kind::Expiry && versions.iter().any(Version::is_there)
        };
        let first = self.cells.iter().find(is_there);
        let first = first.map(|(element, _)| element.kind);
        let rest = self.rest().and_then(|rest| rest.kinds().next());
        first.into_iter().chain(rest).min().map(Kind::shown)
    }

    /// About how many bytes its record has, of all elements.
    pub fn size(&self) -> usize {
        let cells = self.cells.iter().map(|(element, versions)| {
            let values = versions.iter().map(|version| match &version.value.payload {
                Payload::Bytes(bytes) => 24 + bytes.len(),
                Payload::Deadline(over) => 24 + over.size(),
                Payload::Count(_) | Payload::Gone(_) => 32,
            });
            4 + element.name.len() + values.sum::<usize>()
        });
        let rest = self
            .rest()
            .map_or(0, |rest| rest.bytes() + 28 * rest.elements());
        16 * self.context.actors() + cells.sum::<usize>() + rest as usize
    }

    /// Whether it was written over all that another has, and has nothing of that itself; nor is there anything to be
    /// remembered of that.
    pub fn is_over(&self, other: &Object) -> bool {
        other.rest().is_none_or(|rest| !rest.is_counted())
            && self.context.covers(&other.context)
            && self
                .all_versions()
                .all(|version| !other.context.contains(version.dot))
    }
}
