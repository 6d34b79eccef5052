//! Folders of plugins that a test or the demo may change: copies, so that the files of the build stay
//! unchanged.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

const SECTION: &str = "saga-demo";

/// Copies components and policies from one folder to another. When the target folder has a component of
/// `swapped` already, that one is copied with a new digest, which differs from every digest that an earlier
/// run deployed.
///
/// # Errors
/// The source holds no component, or the target cannot be written to.
pub fn copy(from: &Path, to: &Path, swapped: &str) -> Result<PathBuf> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let entries = fs::read_dir(from).with_context(|| {
        format!("no plugins in {}; build them, or name their folder with --plugins", from.display())
    })?;
    let mut components = 0;
    for entry in entries {
        let path = entry?.path();
        let kind = path.extension().and_then(|extension| extension.to_str());
        let Some((name, "wasm" | "toml")) = path.file_name().zip(kind) else { continue };
        let target = to.join(name);
        let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        components += usize::from(kind == Some("wasm"));
        if name == format!("{swapped}.wasm").as_str() && target.exists() {
            bytes = changed(bytes, clock()?);
        }
        replace(&target, &bytes)?;
    }
    ensure!(
        components > 0,
        "no components in {}; build them, or name their folder with --plugins",
        from.display()
    );
    Ok(to.to_owned())
}

/// Replaces the component of a plugin by one with the same behaviour and another digest.
///
/// # Errors
/// The folder has no such plugin, or cannot be written to.
pub fn change(folder: &Path, plugin: &str) -> Result<()> {
    let path = folder.join(format!("{plugin}.wasm"));
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    replace(&path, &changed(bytes, clock()?))
}

/// Replaces a file atomically.
///
/// # Errors
/// The folder cannot be written to.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    fs::write(&temporary, bytes).with_context(|| temporary.display().to_string())?;
    fs::rename(&temporary, path).with_context(|| path.display().to_string())
}

fn clock() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}

/// Appends a custom section, which changes only the digest.
/// <https://webassembly.github.io/spec/core/binary/modules.html#custom-section>
fn changed(mut bytes: Vec<u8>, stamp: u128) -> Vec<u8> {
    let stamp = stamp.to_string();
    let length = |bytes: usize| u8::try_from(bytes).unwrap_or(u8::MAX).min(0x7f);
    bytes.extend([0, length(1 + SECTION.len() + stamp.len()), length(SECTION.len())]);
    bytes.extend_from_slice(SECTION.as_bytes());
    bytes.extend_from_slice(stamp.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::{changed, copy};

    #[test]
    fn a_change_is_a_custom_section_at_the_end() {
        assert_eq!(changed(b"\0asm".to_vec(), 42), b"\0asm\0\x0c\x09saga-demo42");
    }

    #[test]
    fn only_the_swapped_component_differs_from_the_build() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("dist"), folder.path().join("demo/plugins"));
        std::fs::create_dir(&from).unwrap();
        for name in ["order-orchestrator.wasm", "order-query.wasm", "order-query.toml", "notes.txt"] {
            std::fs::write(from.join(name), name).unwrap();
        }
        copy(&from, &to, "order-orchestrator").unwrap();
        assert_eq!(
            std::fs::read_to_string(to.join("order-orchestrator.wasm")).unwrap(),
            "order-orchestrator.wasm"
        );
        copy(&from, &to, "order-orchestrator").unwrap();
        assert_ne!(std::fs::read(to.join("order-orchestrator.wasm")).unwrap(), b"order-orchestrator.wasm");
        assert_eq!(std::fs::read_to_string(to.join("order-query.wasm")).unwrap(), "order-query.wasm");
        assert!(!to.join("notes.txt").exists());
        assert_eq!(
            std::fs::read_to_string(from.join("order-orchestrator.wasm")).unwrap(),
            "order-orchestrator.wasm"
        );
    }
}
