//! Files of any size, from this machine or from an address.

use super::Check;
use crate::inventory::fault::At;
use crate::inventory::model::FileOrigin;
use crate::inventory::raw;

/// Hexadecimal digits of a SHA-512.
const SHA512_LENGTH: usize = 128;

impl Check<'_, '_> {
    pub(super) fn artifact(&mut self, at: &At, given: Option<&raw::Artifact>) -> Option<FileOrigin> {
        let given = given?;
        self.file_origin(at, given.file.as_ref(), given.url.as_ref(), given.sha512.as_ref())
    }

    /// One of a file and an address; nothing where it is a fault.
    pub(super) fn file_origin(
        &mut self,
        at: &At,
        file: Option<&String>,
        url: Option<&String>,
        sha512: Option<&String>,
    ) -> Option<FileOrigin> {
        let sha512 = sha512.map(|sum| sum.to_ascii_lowercase());
        if let Some(sum) = &sha512
            && (sum.len() != SHA512_LENGTH || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            let help = "128 hexadecimal digits, as `sha512sum FILE` prints".to_owned();
            self.faults.add(&at.key("sha512"), "this is no SHA-512", help);
        }
        match (file, url, sha512) {
            (Some(file), None, sha512) => Some(FileOrigin::File { path: self.beside(file), sha512 }),
            (None, Some(url), Some(sha512)) => {
                if !url.starts_with("https://") && !url.starts_with("http://") {
                    let help = "`https://…`; a file of this machine is a `file`".to_owned();
                    self.faults.add(&at.key("url"), format!("`{url}` cannot be fetched"), help);
                }
                Some(FileOrigin::Url { url: url.clone(), sha512 })
            }
            (None, Some(_), None) => {
                let help = "add `sha512`: what `sha512sum` says of a copy that you trust".to_owned();
                self.faults.add_key(at, "what is downloaded needs a checksum", help);
                None
            }
            _ => {
                let help = "write `{file: PATH}` or `{url: …, sha512: …}`".to_owned();
                self.faults.add_key(at, "an artifact has exactly one of `file` and `url`", help);
                None
            }
        }
    }
}
