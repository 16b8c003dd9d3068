//! The exact command that installs PostgreSQL here, by `/etc/os-release`. On Debian and Ubuntu the package
//! would also start a system cluster, so the command first says that it must not (noninteractive: the
//! package would otherwise ask about that very file).
//!
//! Facts: releases that ship PostgreSQL below the floor (Debian < 12, Ubuntu < 23.04) take it from the
//! PostgreSQL project's repository; RHEL 8 and 9 need a module stream. An unknown system gets a sentence.

use super::account;

const NO_CLUSTER: &str = "mkdir -p /etc/postgresql-common && \
     echo 'create_main_cluster = false' >> /etc/postgresql-common/createcluster.conf";
/// Waits for the Enter key; its newer versions know an option against that, its older ones do not.
const PGDG: &str = "yes | /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh";

/// The command for this machine and this user.
pub(crate) fn command_here() -> String {
    if cfg!(target_os = "macos") {
        return "brew install postgresql@17".to_owned();
    }
    let release = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_default();
    command(&release, account::own_uid() == 0)
}

/// The command for the system that `release` (the text of an os-release file) describes.
fn command(release: &str, is_root: bool) -> String {
    let version: f64 = field(release, "VERSION_ID").parse().unwrap_or(f64::MAX);
    let ids = format!("{} {}", field(release, "ID"), field(release, "ID_LIKE"));
    let is = |name: &str| ids.split_whitespace().any(|id| id == name);
    let own = field(release, "ID");
    let script = if is("debian") || is("ubuntu") {
        let is_old = (own == "debian" && version < 12.0) || (own == "ubuntu" && version < 23.04);
        if is_old {
            format!(
                "{NO_CLUSTER} && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y postgresql-common && {PGDG} && \
                 apt-get install -y postgresql-17"
            )
        } else {
            format!(
                "{NO_CLUSTER} && apt-get update && \
                 DEBIAN_FRONTEND=noninteractive apt-get install -y postgresql"
            )
        }
    } else if own == "fedora" || (is("rhel") && version >= 10.0) {
        "dnf install -y postgresql-server".to_owned()
    } else if is("rhel") || is("centos") {
        "dnf module enable -y postgresql:16 && dnf install -y postgresql-server".to_owned()
    } else if is("alpine") {
        "apk add postgresql".to_owned()
    } else if is("arch") {
        "pacman -S --noconfirm postgresql".to_owned()
    } else if is("suse") || is("opensuse") {
        "zypper install -y postgresql-server".to_owned()
    } else {
        return "(the server package of PostgreSQL 15 or newer, by this system's package manager)".to_owned();
    };
    if is_root { script } else { format!("sudo sh -c \"{script}\"") }
}

/// A value of an os-release file without its quotes; empty when absent.
fn field<'a>(release: &'a str, name: &str) -> &'a str {
    release
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .map_or("", |value| value.trim().trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_system_gets_its_own_command() {
        let check = |release: &str, expected: &str| {
            let command = command(release, true);
            assert!(command.contains(expected), "{release}: {command}");
        };
        check("ID=debian\nVERSION_ID=\"12\"\n", "noninteractive apt-get install -y postgresql");
        check("ID=debian\nVERSION_ID=\"12\"\n", "create_main_cluster = false");
        check("ID=debian\nVERSION_ID=\"11\"\n", "postgresql-17");
        check("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"22.04\"\n", "postgresql-17");
        check(
            "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n",
            "noninteractive apt-get install -y postgresql",
        );
        check("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=21", "apt-get install -y postgresql");
        check("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n", "module enable");
        check("ID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"10.0\"\n", "dnf install");
        check("ID=fedora\nVERSION_ID=42\n", "dnf install -y postgresql-server");
        check("ID=alpine\nVERSION_ID=3.20.1\n", "apk add");
        check("ID=arch\n", "pacman");
        check("ID=plan9\n", "package manager");
        check("", "package manager");
    }

    #[test]
    fn an_ordinary_user_is_given_one_command_for_sudo() {
        let command = command("ID=debian\nVERSION_ID=12\n", false);
        assert!(command.starts_with("sudo sh -c \"mkdir -p"), "{command}");
        assert_eq!(command.matches('"').count(), 2, "{command}");
        assert!(command.ends_with("postgresql\""), "{command}");
    }
}
