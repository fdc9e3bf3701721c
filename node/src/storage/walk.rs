//! Walking over rows of the overlay and the index together, up or down, without copying a row.
//!
//! What [`super::layer::Merged`] gives one by one and owned, a walk shows and forgets: queries look at a hundred
//! thousand keys where a scan hands out a page.

use std::{iter::Peekable, ops::ControlFlow};

use redb::AccessGuard;

use super::{
    base::{BaseRange, disk_error},
    careful::careful,
    layer::{Key, LayerRows, Reader, Row},
    tables::Table,
    types::StorageError,
};

/// Which rows to walk over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) table: Table,
    pub(super) from: &'a [u8],
    /// The end, which is not walked over.
    pub(super) to: Option<&'a [u8]>,
    /// The last first.
    pub(super) descending: bool,
}

/// Who looks at a key and its row, and says whether to go on.
pub(super) type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

type BaseRow = (AccessGuard<'static, &'static [u8]>, AccessGuard<'static, &'static [u8]>);

/// A layer's rows in the direction of the walk.
enum Rows<'a> {
    Up(LayerRows<'a>),
    Down(std::iter::Rev<LayerRows<'a>>),
}

impl<'a> Iterator for Rows<'a> {
    type Item = (&'a Key, &'a Row);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Up(rows) => rows.next(),
            Self::Down(rows) => rows.next(),
        }
    }
}

struct Base {
    range: Option<BaseRange>,
    descending: bool,
}

impl Base {
    fn next_row(&mut self) -> Result<Option<BaseRow>, StorageError> {
        let Some(range) = &mut self.range else { return Ok(None) };
        careful(|| {
            let row = if self.descending {
                range.next_back()
            } else {
                range.next()
            };
            row.transpose().map_err(disk_error)
        })
    }
}

impl Reader<'_> {
    /// Shows rows one after the other. Breaks if the visitor does.
    pub(super) fn walk(&self, walk: Walk<'_>, visit: Visit<'_>) -> Result<ControlFlow<()>, StorageError> {
        let Walk {
            table,
            from,
            to,
            descending,
        } = walk;
        let mut base = Base {
            range: self.base.range(table, from, to)?,
            descending,
        };
        let layers = self.layers.iter().map(|layer| {
            let rows = layer.rows(table, from, to);
            let rows = if descending {
                Rows::Down(rows.rev())
            } else {
                Rows::Up(rows)
            };
            rows.peekable()
        });
        let mut heads: Vec<_> = layers
            .filter_map(|mut rows| rows.peek().is_some().then_some(rows))
            .collect();
        let mut below = base.next_row()?;
        while !heads.is_empty() {
            let Some(key) = first(&mut heads, descending) else {
                break;
            };
            // Rows of the index that come before the overlay's next.
            while let Some((held, row)) = &below {
                let (held, is_same) = (held.value(), held.value() == key);
                if is_same || is_before(key, held, descending) {
                    break;
                }
                if visit(held, row.value()).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                below = base.next_row()?;
            }
            if below.as_ref().is_some_and(|(held, _)| held.value() == key) {
                below = base.next_row()?;
            }
            let row = take(&mut heads, key);
            if let Some(row) = row
                && visit(key, row).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        while let Some((key, row)) = &below {
            if visit(key.value(), row.value()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            below = base.next_row()?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn is_before(a: &[u8], b: &[u8], descending: bool) -> bool {
    if descending { a > b } else { a < b }
}

/// The key that comes next in any layer.
fn first<'a>(heads: &mut [Peekable<Rows<'a>>], descending: bool) -> Option<&'a [u8]> {
    let keys = heads
        .iter_mut()
        .filter_map(|head| head.peek().map(|(key, _)| key.as_slice()));
    keys.reduce(|first, key| if is_before(key, first, descending) { key } else { first })
}

/// Takes a key out of all layers: what the newest says of it.
fn take<'a>(heads: &mut [Peekable<Rows<'a>>], key: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    for head in heads {
        if let Some((_, row)) = head.next_if(|(held, _)| *held.as_slice() == *key) {
            found.get_or_insert(row.as_deref());
        }
    }
    found.flatten()
}
