//! The fuzz targets, run over their committed corpus: no nightly compiler needed.

use std::path::{Path, PathBuf};

use crate::said::{Said, frame};
use crate::samples::samples;

#[path = "../../../fuzz/src/protocol.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod targets;

use targets::TARGETS;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

#[test]
fn every_committed_input_passes_its_target() {
    for (name, target) in TARGETS {
        let mut inputs = 0;
        for file in std::fs::read_dir(corpus(name)).unwrap_or_else(|error| panic!("the corpus of {name}: {error}")) {
            let path = file.expect("the corpus can be read").path();
            let input = std::fs::read(&path).expect("an input can be read");
            let outcome = std::panic::catch_unwind(|| target(&input));
            assert!(outcome.is_ok(), "{} fails its target", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}

/// A fuzzer starts from what is well formed; `UPDATE_GOLDEN=1` adds the seeds of new messages.
#[test]
fn every_golden_message_is_a_seed() {
    for sample in samples() {
        let bytes = sample.said.encode(1, false);
        let target = match &sample.said {
            Said::Request(..) => "request",
            Said::Reply(..) | Said::Refused(_) => "reply",
            Said::Created(_) | Said::SnapshotPage(_) | Said::Batch(_) | Said::ResetPage(_) | Said::End(_) => "watch",
            _ => "control",
        };
        seed(target, sample.message, sample.case, &bytes[4..8], &frame(&bytes).body);
        seed("frame", sample.message, sample.case, &[7], &bytes);
        if let Said::Request(context, _) = &sample.said
            && !context.is_empty()
        {
            seed("context", sample.message, sample.case, &[], &frame(&bytes).body);
        }
    }
}

/// Writes a seed, or fails if it is missing or another.
fn seed(target: &str, message: &str, case: &str, head: &[u8], body: &[u8]) {
    let case: String = case.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = corpus(target).join(format!("{message}.{case}"));
    let input = [head, body].concat();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(corpus(target)).expect("the corpus can be made");
        std::fs::write(&path, &input).expect("a seed can be written");
    }
    let committed = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(committed, input, "{}", path.display());
}

#[test]
fn every_target_can_be_started() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("the fuzz crate has a manifest");
    for (name, _) in TARGETS {
        assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "{name} has no program");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}
