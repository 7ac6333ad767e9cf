//! GEOSEARCH and its old forms.

use bytes::Bytes;

use super::words::{coordinates, number, place, reply_place, unit};
use crate::command::context::{Ctx, Outcome};
use crate::command::family::zset::reply;
use crate::error::Error;
use crate::logic::causal::{Kind, Object};
use crate::logic::types::geo::{Area, Place};
use crate::logic::types::zset::{self, Score};
use crate::routing::args::Args;

/// Where a search begins.
#[derive(Clone, Copy)]
enum From<'a> {
    Place(Place),
    Member(&'a [u8]),
}

/// A search with its options.
#[expect(
    clippy::struct_excessive_bools,
    reason = "five options, each on or off"
)]
#[derive(Default)]
struct Query<'a> {
    from: Option<From<'a>>,
    area: Option<Area>,
    /// Metres in the unit.
    metres: f64,
    descends: Option<bool>,
    count: Option<usize>,
    any: bool,
    with_place: bool,
    with_distance: bool,
    with_hash: bool,
    store: Option<&'a [u8]>,
    store_distance: bool,
}

struct Found {
    score: Score,
    member: Bytes,
    distance: f64,
}

/// Which options there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Search,
    SearchStore,
    Radius,
    RadiusReadOnly,
}

fn length(args: Args<'_>, nth: usize, what: &str) -> Result<f64, Error> {
    let wrong = || Error::Text(format!("ERR need numeric {what}").into());
    number(args, nth).ok_or_else(wrong)
}

impl<'a> Query<'a> {
    fn radius(&mut self, args: Args<'_>, nth: usize) -> Result<(), Error> {
        let radius = length(args, nth, "radius")?;
        if radius < 0.0 {
            return Err(Error::text("ERR radius cannot be negative"));
        }
        self.metres = unit(args.get(nth + 1).unwrap_or_default())?;
        self.area = Some(Area::Circle(radius * self.metres));
        Ok(())
    }

    fn rectangle(&mut self, args: Args<'_>, nth: usize) -> Result<(), Error> {
        let (width, height) = (
            length(args, nth, "width")?,
            length(args, nth + 1, "height")?,
        );
        if width < 0.0 || height < 0.0 {
            return Err(Error::text("ERR height or width cannot be negative"));
        }
        self.metres = unit(args.get(nth + 2).unwrap_or_default())?;
        self.area = Some(Area::Box(width * self.metres, height * self.metres));
        Ok(())
    }

    /// The options from a word on.
    fn options(&mut self, args: Args<'a>, mut nth: usize, form: Form) -> Result<(), Error> {
        let is_search = matches!(form, Form::Search | Form::SearchStore);
        while nth < args.len() {
            let left = args.len() - nth - 1;
            // Where the key is that is written is told by its word: there is one.
            let is_free = form == Form::Radius && self.store.is_none();
            match () {
                () if args.is(nth, "WITHDIST") => self.with_distance = true,
                () if args.is(nth, "WITHHASH") => self.with_hash = true,
                () if args.is(nth, "WITHCOORD") => self.with_place = true,
                () if args.is(nth, "ANY") => self.any = true,
                () if args.is(nth, "ASC") => self.descends = Some(false),
                () if args.is(nth, "DESC") => self.descends = Some(true),
                () if args.is(nth, "COUNT") && left >= 1 => {
                    let count = args.integer(nth + 1)?;
                    let count = usize::try_from(count).ok().filter(|count| *count > 0);
                    self.count = Some(count.ok_or(Error::text("ERR COUNT must be > 0"))?);
                    nth += 1;
                }
                () if is_free && args.is(nth, "STORE") && left >= 1 => {
                    (self.store, self.store_distance) = (Some(args.at(nth + 1)), false);
                    nth += 1;
                }
                () if is_free && args.is(nth, "STOREDIST") && left >= 1 => {
                    (self.store, self.store_distance) = (Some(args.at(nth + 1)), true);
                    nth += 1;
                }
                () if form == Form::SearchStore && args.is(nth, "STOREDIST") => {
                    self.store_distance = true;
                }
                () if is_search => nth += self.place_or_area(args, nth)?,
                () => return Err(Error::Syntax),
            }
            nth += 1;
        }
        self.check(args, form)
    }

    /// The options of GEOSEARCH that say where; how many words they have behind them.
    fn place_or_area(&mut self, args: Args<'a>, nth: usize) -> Result<usize, Error> {
        let left = args.len() - nth - 1;
        let (has_from, has_area) = (self.from.is_some(), self.area.is_some());
        match () {
            () if !has_from && args.is(nth, "FROMMEMBER") && left >= 1 => {
                self.from = Some(From::Member(args.at(nth + 1)));
                Ok(1)
            }
            () if !has_from && args.is(nth, "FROMLONLAT") && left >= 2 => {
                let (lon, lat) = coordinates(args, nth + 1)?;
                self.from = Some(From::Place(place(lon, lat)?));
                Ok(2)
            }
            () if !has_area && args.is(nth, "BYRADIUS") && left >= 2 => {
                self.radius(args, nth + 1)?;
                Ok(2)
            }
            () if !has_area && args.is(nth, "BYBOX") && left >= 3 => {
                self.rectangle(args, nth + 1)?;
                Ok(3)
            }
            () => Err(Error::Syntax),
        }
    }

    /// Whether the options fit together.
    fn check(&self, args: Args<'_>, form: Form) -> Result<(), Error> {
        let is_search = matches!(form, Form::Search | Form::SearchStore);
        let shows = self.with_distance || self.with_hash || self.with_place;
        if shows && form == Form::SearchStore {
            return Err(Error::text(
                "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            ));
        }
        if shows && self.store.is_some() {
            return Err(Error::text(
                "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            ));
        }
        if is_search && self.from.is_none() {
            return Err(Error::Text(
                format!(
                    "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}",
                    args.text(0)
                )
                .into(),
            ));
        }
        if is_search && self.area.is_none() {
            return Err(Error::Text(
                format!(
                    "ERR exactly one of BYRADIUS and BYBOX can be specified for {}",
                    args.text(0)
                )
                .into(),
            ));
        }
        if self.any && self.count.is_none() {
            return Err(Error::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    fn run(&self, set: &Object) -> Result<Vec<Found>, Error> {
        let missing = Error::text("ERR could not decode requested zset member");
        let from = match self.from {
            Some(From::Place(place)) => place,
            Some(From::Member(member)) => Place::of(zset::score(set, member).ok_or(missing)?),
            None => return Err(Error::Syntax),
        };
        let area = self.area.ok_or(Error::Syntax)?;
        let members = zset::by_score(set).into_iter();
        let mut found: Vec<Found> = members
            .filter_map(|(score, member)| {
                Some(Found {
                    score,
                    member: member.clone(),
                    distance: from.distance_within(Place::of(score), area)?,
                })
            })
            .collect();
        let sorts = self.count.is_some() && !self.any;
        if let Some(descends) = self.descends.or(sorts.then_some(false)) {
            found.sort_by(|a, b| a.distance.total_cmp(&b.distance));
            if descends {
                found.reverse();
            }
        }
        found.truncate(self.count.unwrap_or(usize::MAX));
        Ok(found)
    }

    fn reply(&self, ctx: &mut Ctx<'_>, found: &[Found]) {
        let more = [self.with_distance, self.with_hash, self.with_place];
        let more = more.into_iter().filter(|with| *with).count();
        ctx.reply.array(found.len());
        for one in found {
            if more > 0 {
                ctx.reply.array(more + 1);
            }
            ctx.reply.bulk(&one.member);
            if self.with_distance {
                ctx.reply
                    .bulk(format!("{:.4}", one.distance / self.metres).as_bytes());
            }
            if self.with_hash {
                ctx.reply.integer(one.score.get() as i64);
            }
            if self.with_place {
                reply_place(ctx, one.score);
            }
        }
    }

    fn end(&self, ctx: &mut Ctx<'_>, source: &[u8]) -> Outcome {
        let set = ctx.typed(source, Kind::Zset)?;
        if zset::len(&set) == 0 {
            if let Some(key) = self.store {
                return reply::store(ctx, key, std::iter::empty());
            }
            ctx.reply.array(0);
            return Ok(());
        }
        let found = self.run(&set)?;
        let Some(key) = self.store else {
            self.reply(ctx, &found);
            return Ok(());
        };
        let kept = found.iter().filter_map(|one| {
            let score = if self.store_distance {
                Score::new(one.distance / self.metres)?
            } else {
                one.score
            };
            Some((score, &one.member[..]))
        });
        reply::store(ctx, key, kept)
    }
}

pub(super) fn geosearch(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut query = Query::default();
    query.options(args, 2, Form::Search)?;
    query.end(ctx, args.at(1))
}

pub(super) fn geosearchstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    let mut query = Query {
        store: Some(args.at(1)),
        ..Query::default()
    };
    query.options(args, 3, Form::SearchStore)?;
    query.end(ctx, args.at(2))
}

fn around_place(ctx: &mut Ctx<'_>, args: Args<'_>, form: Form) -> Outcome {
    let mut query = Query::default();
    let (lon, lat) = coordinates(args, 2)?;
    query.from = Some(From::Place(place(lon, lat)?));
    query.radius(args, 4)?;
    query.options(args, 6, form)?;
    query.end(ctx, args.at(1))
}

fn around_member(ctx: &mut Ctx<'_>, args: Args<'_>, form: Form) -> Outcome {
    let mut query = Query {
        from: Some(From::Member(args.at(2))),
        ..Query::default()
    };
    query.radius(args, 3)?;
    query.options(args, 5, form)?;
    query.end(ctx, args.at(1))
}

pub(super) fn georadius(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    around_place(ctx, args, Form::Radius)
}

pub(super) fn georadius_ro(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    around_place(ctx, args, Form::RadiusReadOnly)
}

pub(super) fn georadiusbymember(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    around_member(ctx, args, Form::Radius)
}

pub(super) fn georadiusbymember_ro(ctx: &mut Ctx<'_>, args: Args<'_>) -> Outcome {
    around_member(ctx, args, Form::RadiusReadOnly)
}
