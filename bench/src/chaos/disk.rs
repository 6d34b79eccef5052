//! A small file system in memory, which a fault fills to the last byte.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const BALLAST: &str = "ballast";
static BLOCK: [u8; 1 << 16] = [7; 1 << 16];

/// A mounted file system. Dropping it unmounts it.
#[derive(Debug)]
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Mounts one of this size on a folder.
    ///
    /// # Errors
    /// The system refuses it: only root may mount.
    pub(super) fn mount(folder: &Path, mb: u32) -> Result<Self> {
        let options = format!("size={mb}m,mode=755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output();
        let mounted = mounted.context("starting mount")?;
        let printed = String::from_utf8_lossy(&mounted.stderr);
        ensure!(mounted.status.success(), "a small disk cannot be mounted: {}", printed.trim());
        Ok(Self(folder.to_owned()))
    }

    /// Whether this process may mount file systems.
    pub(super) fn possible() -> Result<()> {
        ensure!(rustix::process::geteuid().is_root(), "it mounts a small disk, which only root may do");
        let folder = std::env::temp_dir().join(format!("saga-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let tried = Self::mount(&folder, 1).map(drop);
        std::fs::remove_dir(&folder)?;
        tried
    }

    /// Takes all space that is left.
    ///
    /// # Errors
    /// The file cannot be created, or the disk does not fill.
    pub(super) fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.0.join(BALLAST)).context("the file that fills the disk")?;
        for block in [&BLOCK[..], &BLOCK[..1]] {
            loop {
                match ballast.write_all(block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => bail!("filling the disk: {error}"),
                }
            }
        }
        Ok(())
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// As the system reports.
    pub(super) fn free(&self) -> Result<()> {
        std::fs::remove_file(self.0.join(BALLAST)).context("freeing the disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also while a server that is stopping has a file open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[cfg(test)]
mod tests {
    use super::Disk;

    #[test]
    fn a_full_disk_takes_no_byte_until_it_is_freed() {
        // Only root may mount.
        if Disk::possible().is_err() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::mount(folder.path(), 1).unwrap();
        disk.fill().unwrap();
        let file = folder.path().join("file");
        assert!(std::fs::write(&file, "a").is_err());
        disk.free().unwrap();
        std::fs::write(&file, "a").unwrap();
        drop(disk);
        assert!(!file.exists());
    }
}
