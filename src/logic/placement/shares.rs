//! Fair shares: how many partitions each member is to own, in whole numbers.
//!
//! A member owns a partition at most once, and a zone at most its part of the owners of one; what a
//! bound keeps from one goes to the others by weight.

/// One member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    pub(super) zone: &'a str,
    pub(super) weight: u32,
    /// What it owns now: of two equal claims to the odd partition the one of the member that has it is better.
    pub(super) load: usize,
    pub(super) tie: u64,
}

/// The targets; they add up to `n` (or as many as there are members) for each partition.
pub(super) fn fair_shares(members: &[Share<'_>], partitions: usize, n: usize) -> Vec<usize> {
    let n = n.min(members.len());
    let mut zones: Vec<&str> = members.iter().map(|m| m.zone).collect();
    zones.sort_unstable();
    zones.dedup();
    let per_zone = n.div_ceil(zones.len().max(1));
    let in_zone = |zone: &str| members.iter().filter(|m| m.zone == zone).count();
    let weights: Vec<f64> = zones
        .iter()
        .map(|zone| {
            let of_zone = members.iter().filter(|m| m.zone == *zone);
            of_zone.map(|m| f64::from(m.weight)).sum()
        })
        .collect();
    let bounds: Vec<f64> = zones
        .iter()
        .map(|zone| (partitions * per_zone.min(in_zone(zone))) as f64)
        .collect();
    let total = (partitions * n) as f64;
    // With zones of very different sizes the bounds leave places over: then zones must give way.
    let of_zones = if bounds.iter().sum::<f64>() < total {
        let loose: Vec<f64> = zones
            .iter()
            .map(|zone| (partitions * in_zone(zone)) as f64)
            .collect();
        pour(total, &weights, &loose)
    } else {
        pour(total, &weights, &bounds)
    };
    // Whole numbers for zones first: where each must have a copy, one too many here is one too few there.
    let claim = |nth: usize| {
        let of_zone = members.iter().filter(|m| m.zone == zones[nth]);
        let (load, tie) = of_zone.fold((0, 0), |(load, tie), m| (load + m.load, tie ^ m.tie));
        (load, tie)
    };
    let claims: Vec<(usize, u64)> = (0..zones.len()).map(claim).collect();
    let of_zones = round(&claims, &of_zones, total.round() as usize);
    let mut out = vec![0; members.len()];
    for (zone, amount) in zones.iter().zip(of_zones) {
        let places: Vec<usize> = (0..members.len())
            .filter(|&m| members[m].zone == *zone)
            .collect();
        let weights: Vec<f64> = places
            .iter()
            .map(|&m| f64::from(members[m].weight))
            .collect();
        let bounds = vec![partitions as f64; places.len()];
        let exact = pour(amount as f64, &weights, &bounds);
        let claims: Vec<(usize, u64)> = places
            .iter()
            .map(|&m| (members[m].load, members[m].tie))
            .collect();
        for (place, amount) in places.iter().zip(round(&claims, &exact, amount)) {
            out[*place] = amount;
        }
    }
    out
}

/// Shares an amount by weight under upper bounds.
fn pour(amount: f64, weights: &[f64], bounds: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).collect();
    let mut left = amount;
    loop {
        let weight: f64 = open.iter().map(|&nth| weights[nth]).sum();
        let share = |nth: usize| left * weights[nth] / weight;
        let full: Vec<usize> = open
            .iter()
            .copied()
            .filter(|&nth| share(nth) > bounds[nth])
            .collect();
        if full.is_empty() {
            for &nth in &open {
                out[nth] = share(nth);
            }
            return out;
        }
        for &nth in &full {
            out[nth] = bounds[nth];
        }
        left -= full.iter().map(|&nth| bounds[nth]).sum::<f64>();
        open.retain(|nth| !full.contains(nth));
        if open.is_empty() {
            return out;
        }
    }
}

/// Whole numbers with the same sum, each less than one away; who owns what and breaks ties how.
fn round(claims: &[(usize, u64)], exact: &[f64], total: usize) -> Vec<usize> {
    // A share that is whole but for the arithmetic's noise is whole.
    let floor = |share: f64| (share + 1e-6).floor() as usize;
    let mut out: Vec<usize> = exact.iter().map(|&share| floor(share)).collect();
    let mut open: Vec<usize> = (0..exact.len())
        .filter(|&m| exact[m] - out[m] as f64 > 1e-6)
        .collect();
    open.sort_by_key(|&m| {
        let part = ((exact[m] - out[m] as f64) * 1e6) as u64;
        let (load, tie) = claims[m];
        std::cmp::Reverse((load > out[m], part, tie))
    });
    let odd = total.saturating_sub(out.iter().sum());
    for &m in open.iter().take(odd) {
        out[m] += 1;
    }
    out
}
