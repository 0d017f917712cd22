//! What tables were, for table maps that name no columns: the seam between the decoder and what remembers it.

use crate::position::Position;
use crate::schema::{Declared, TableName, Touch};
use std::io;
use std::sync::Arc;

/// Remembers declarations of tables and the statements that may have changed them, through restarts.
pub trait Definitions: Send + Sync {
    /// A statement in the transaction at this position may have changed tables. On disk when this comes back: nothing
    /// of what follows it may be handed on before.
    fn touched(&mut self, position: Position, touch: Touch) -> io::Result<()>;
    /// What the table was for rows of the transaction at this position; none where that is not known.
    fn table(&mut self, position: Position, table: &TableName) -> Option<Arc<Declared>>;
}
