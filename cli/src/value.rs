//! Values and keys as arguments: text, `-` for standard input, `@file`; any bytes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use hither::{Key, KeyRange};
use hither_protocol::limits::VALUE_BYTES_MAX;

use crate::exit::Failure;

/// The bytes that a value argument stands for.
pub(crate) fn read(argument: &OsStr, literal: bool) -> Result<Bytes, Failure> {
    let bytes = argument.as_encoded_bytes();
    if literal {
        return Ok(Bytes::copy_from_slice(bytes));
    }
    match bytes {
        b"-" => bounded(io::stdin().lock(), "standard input"),
        [b'@', ..] => {
            let path = Path::new(tail(argument));
            let file = File::open(path)
                .map_err(|error| Failure::usage(format!("cannot read the value from {}: {error}", path.display())))?;
            bounded(file, &path.display().to_string())
        }
        other => Ok(Bytes::copy_from_slice(other)),
    }
}

/// The argument after its first byte, which is ASCII.
fn tail(argument: &OsStr) -> &OsStr {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        OsStr::from_bytes(&argument.as_bytes()[1..])
    }
    #[cfg(not(unix))]
    {
        OsStr::new(argument.to_str().map_or("", |text| &text[1..]))
    }
}

/// Everything in `input`, as long as it can be a value: an endless input must not fill the memory first.
fn bounded(input: impl Read, name: &str) -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    input
        .take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| Failure::failed(format!("cannot read the value from {name}: {error}")))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "ValueTooLarge (3004): {name} holds more than {VALUE_BYTES_MAX} bytes; keep the document elsewhere and store its address"
        )));
    }
    Ok(value.into())
}

/// A key argument. A leading slash is allowed, but rarely meant.
pub(crate) fn key(argument: &OsString) -> Key {
    let bytes = argument.as_encoded_bytes();
    if bytes.first() == Some(&b'/') {
        eprintln!(
            "hint: \"{0}\" begins with a slash, so it is another key than \"{1}\"; Hither's own keys begin without one",
            bytes.escape_ascii(),
            bytes[1..].escape_ascii()
        );
    }
    Key::from(bytes)
}

/// What a `KEY` argument of `watch` names: a key, or all keys below it if it ends with `/` or the flag says so.
pub(crate) fn key_or_prefix(argument: &OsString, prefix: bool) -> KeyRange {
    let key = key(argument);
    if prefix || key.as_bytes().ends_with(b"/") { KeyRange::prefix(key) } else { KeyRange::One(key) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_value_may_come_from_a_file_with_any_bytes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"\x00\xff\n").unwrap();
        let mut argument = OsString::from("@");
        argument.push(file.path());
        assert_eq!(&read(&argument, false).unwrap()[..], b"\x00\xff\n");
        assert_eq!(&read(&argument, true).unwrap()[..], argument.as_encoded_bytes());
    }

    #[test]
    fn a_value_is_taken_as_it_stands() {
        assert_eq!(&read(OsStr::new("a b\n"), false).unwrap()[..], b"a b\n");
        assert_eq!(&read(OsStr::new(""), false).unwrap()[..], b"");
    }

    #[test]
    fn a_missing_file_is_a_usage_error_that_names_it() {
        let failure = read(OsStr::new("@/no/such/file"), false).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("/no/such/file"), "{failure}");
    }

    #[test]
    fn an_endless_input_is_refused_at_the_limit() {
        assert_eq!(bounded(io::repeat(7), "it").unwrap_err().exit, Exit::Usage);
        assert_eq!(bounded(io::repeat(7).take(VALUE_BYTES_MAX as u64), "it").unwrap().len(), VALUE_BYTES_MAX);
    }

    #[test]
    fn a_trailing_slash_means_everything_below() {
        assert_eq!(key_or_prefix(&"a/".into(), false), KeyRange::prefix("a/"));
        assert_eq!(key_or_prefix(&"a".into(), true), KeyRange::prefix("a"));
        assert_eq!(key_or_prefix(&"a".into(), false), KeyRange::One("a".into()));
    }
}
