//! Delta debugging: a list from which nothing can be left out.

/// Makes `all` smaller. `fails` says whether a part still fails, and takes note of those that do.
///
/// The result is 1-minimal: it fails, and without any single one of its items it does not (unless `fails` says
/// different things of one list). Errors pass through.
pub(super) fn minimize<T: Copy, E>(all: Vec<T>, mut fails: impl FnMut(&[T]) -> Result<bool, E>) -> Result<Vec<T>, E> {
    // Many bugs need no fault at all; one run finds out.
    if !all.is_empty() && fails(&[])? {
        return Ok(Vec::new());
    }
    let mut kept = all;
    let mut parts = 2;
    while kept.len() > 1 {
        let size = kept.len().div_ceil(parts);
        let chunks: Vec<&[T]> = kept.chunks(size).collect();
        let mut smaller = None;
        for chunk in &chunks {
            if chunk.len() < kept.len() && fails(chunk)? {
                smaller = Some((chunk.to_vec(), 2));
                break;
            }
        }
        // With two parts, all but one is the other.
        if smaller.is_none() && chunks.len() > 2 {
            for left_out in 0..chunks.len() {
                let others = chunks.iter().enumerate().filter(|(at, _)| *at != left_out);
                let others: Vec<T> = others.flat_map(|(_, chunk)| chunk.iter().copied()).collect();
                if fails(&others)? {
                    smaller = Some((others, (parts - 1).max(2)));
                    break;
                }
            }
        }
        match smaller {
            Some((smaller, next)) => (kept, parts) = (smaller, next),
            None if parts >= kept.len() => break,
            None => parts = (2 * parts).min(kept.len()),
        }
    }
    Ok(kept)
}
