//! Places on the earth as scores of sorted sets: 52 bits, of longitude and latitude in turn, as Redis has them.

use super::zset::Score;

const MIN_LON: f64 = -180.0;
const MAX_LON: f64 = 180.0;
const MAX_LAT: f64 = 85.051_128_78;
const MIN_LAT: f64 = -MAX_LAT;
/// Bits of each coordinate.
const STEPS: u32 = 26;
/// Metres; what Redis calculates with.
const EARTH_RADIUS: f64 = 6_372_797.560_856;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// East of Greenwich.
    pub lon: f64,
    /// North of the equator.
    pub lat: f64,
}

/// What a search is within, in metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Area {
    /// So far away at most.
    Circle(f64),
    /// So wide and so high.
    Box(f64, f64),
}

impl Place {
    /// A place that can be stored.
    pub fn new(lon: f64, lat: f64) -> Option<Self> {
        let is_there = (MIN_LON..=MAX_LON).contains(&lon) && (MIN_LAT..=MAX_LAT).contains(&lat);
        is_there.then_some(Self { lon, lat })
    }

    /// The score of the square that it is in.
    pub fn score(self) -> Option<Score> {
        Score::new(self.hash(MIN_LAT, MAX_LAT) as f64)
    }

    /// The middle of the square that a score stands for.
    pub fn of(score: Score) -> Self {
        let bits = score.get() as u64;
        let middle = |cell: u32, min: f64, max: f64| {
            let size = f64::from(1_u32 << STEPS);
            let at = |cell: f64| min + cell / size * (max - min);
            let middle = f64::midpoint(at(f64::from(cell)), at(f64::from(cell) + 1.0));
            middle.clamp(min, max)
        };
        Self {
            lon: middle(gather(bits >> 1), MIN_LON, MAX_LON),
            lat: middle(gather(bits), MIN_LAT, MAX_LAT),
        }
    }

    /// The standard geohash, of eleven letters.
    pub fn geohash(self) -> String {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = self.hash(-90.0, 90.0);
        let letter = |nth: u32| {
            // There are bits for ten letters and a bit.
            let index = if nth == 10 {
                0
            } else {
                bits >> (52 - (nth + 1) * 5) & 0x1f
            };
            char::from(LETTERS[index as usize])
        };
        (0..11).map(letter).collect()
    }

    /// How far another place is, in metres, on a sphere.
    pub fn distance(self, other: Self) -> f64 {
        let v = ((other.lon.to_radians() - self.lon.to_radians()) / 2.0).sin();
        if v == 0.0 {
            return self.north(other);
        }
        let (lat, other_lat) = (self.lat.to_radians(), other.lat.to_radians());
        let u = ((other_lat - lat) / 2.0).sin();
        let a = u * u + lat.cos() * other_lat.cos() * v * v;
        2.0 * EARTH_RADIUS * a.sqrt().asin()
    }

    /// How far another place is to the north or south.
    fn north(self, other: Self) -> f64 {
        EARTH_RADIUS * (other.lat.to_radians() - self.lat.to_radians()).abs()
    }

    /// How far another place is, where it is in an area around this one.
    pub fn distance_within(self, other: Self, area: Area) -> Option<f64> {
        let distance = self.distance(other);
        let is_within = match area {
            Area::Circle(radius) => distance <= radius,
            Area::Box(width, height) => {
                let beside = Self {
                    lon: self.lon,
                    ..other
                };
                self.north(other) <= height / 2.0 && other.distance(beside) <= width / 2.0
            }
        };
        is_within.then_some(distance)
    }

    fn hash(self, min_lat: f64, max_lat: f64) -> u64 {
        let cell = |at: f64, min: f64, max: f64| {
            ((at - min) / (max - min) * f64::from(1_u32 << STEPS)) as u32
        };
        let lat = cell(self.lat, min_lat, max_lat);
        let lon = cell(self.lon, MIN_LON, MAX_LON);
        spread(lat) | spread(lon) << 1
    }
}

/// Every bit at twice its place.
fn spread(bits: u32) -> u64 {
    (0..32).fold(0, |all, bit| all | u64::from(bits >> bit & 1) << (2 * bit))
}

/// Every other bit.
fn gather(bits: u64) -> u32 {
    (0..32).fold(0, |all, bit| all | ((bits >> (2 * bit) & 1) as u32) << bit)
}
