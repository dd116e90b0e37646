//! The client libraries as `scripts/clients.sh` has installed them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// Node with one of the scripts here: `"nostr_tools.mjs"`, `"libraries/ndk.mjs"`.
pub(crate) fn node(script: &str) -> Command {
    // Node looks for libraries in the script's directory and above, so the scripts are copied to the libraries.
    static COPIED: Once = Once::new();
    let scripts = installed("node_modules/.installed").join("scripts");
    COPIED.call_once(|| {
        for folder in ["", "libraries"] {
            std::fs::create_dir_all(scripts.join(folder)).unwrap();
            for entry in std::fs::read_dir(sources().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "mjs") {
                    std::fs::copy(&path, scripts.join(folder).join(path.file_name().unwrap())).unwrap();
                }
            }
        }
    });

    let mut command = Command::new("node");
    command.arg(scripts.join(script));
    command
}

/// The Python that has nostr-sdk, with one of the scripts here.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(installed("venv/.installed").join("venv/bin/python"));
    command.arg("-B").arg(sources().join(script));
    command
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The directory of the libraries; `stamp` is a file that the installation of the needed one leaves there.
fn installed(stamp: &str) -> PathBuf {
    let clients = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients");
    assert!(clients.join(stamp).exists(), "the client libraries are not installed: run `make deps`");
    clients
}
