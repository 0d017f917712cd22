//! How errors look on a terminal.

use crate::inventory::InventoryError;
use std::fmt::Display;

/// `error: message`, then each cause on a line of its own.
pub(super) fn render(error: &anyhow::Error, color: bool) -> String {
    if let Some(error) = error.downcast_ref::<InventoryError>() {
        return error.render(color);
    }
    let causes = error.chain().skip(1).map(|cause| format!("\n  caused by: {cause}"));
    std::iter::once(label("error", error, color)).chain(causes).collect()
}

/// `label: text`, the label in bold red (error), yellow (warning) or cyan.
pub(super) fn label(label: &str, text: impl Display, color: bool) -> String {
    let code = match label {
        "error" => "1;31",
        "warning" => "1;33",
        _ => "1;36",
    };
    if color { format!("\x1b[{code}m{label}\x1b[0m: {text}") } else { format!("{label}: {text}") }
}
