//! `awooop migrate`: roles (as an administrator, once), schema (as the owner), and, with `--keys`, the keyring
//! and the first admin key. With `--plan` it only says what it would do.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use awooop_store::keyring::Keyring;
use awooop_store::migrate::{
    PlannedMigration, RolePassword, create_roles, migrate, plan, role_password, roles_sql,
};
use awooop_store::{Clock, DatabaseUrls, Store};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{logging, required, setting};
use crate::cli::MigrateArgs;
use crate::output::{note, write_document, write_raw};

/// The roles that log in, and the settings whose URLs hold their passwords.
const ROLES: [(&str, &str); 3] = [
    ("awooop_owner", "AWOOOP_OWNER_DATABASE_URL"),
    ("awooop_app", "AWOOOP_DATABASE_URL"),
    ("awooop_dispatch", "AWOOOP_DISPATCH_DATABASE_URL"),
];

/// The roles that an installation can do without, and their settings: without the first nothing expires, and without
/// the second nobody takes backups.
const OPTIONAL: [(&str, &str); 2] =
    [("awooop_retention", "AWOOOP_RETENTION_DATABASE_URL"), ("awooop_backup", "AWOOOP_BACKUP_DATABASE_URL")];

/// Does what the options ask, in order.
pub(crate) async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    logging::start("warn");
    if args.print_roles {
        write_raw(roles_sql());
        return Ok(ExitCode::SUCCESS);
    }
    let owner = required("AWOOOP_OWNER_DATABASE_URL")?;
    if args.plan {
        return show_plan(&owner, args.json).await;
    }
    if let Some(admin) = &args.admin_url {
        create_roles(admin, &passwords()?).await?;
        note(
            "the roles awooop_owner, awooop_app, awooop_dispatch, awooop_retention and awooop_backup are made",
        );
    }
    let applied = migrate(&owner).await?;
    match applied.last() {
        Some(newest) => note(&format!("the schema is now at version {newest} ({} applied)", applied.len())),
        None => note("the schema is up to date"),
    }
    if let Some(keys) = &args.keys {
        first_key(keys).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What would run, a migration a paragraph.
async fn show_plan(owner: &SecretString, is_json: bool) -> anyhow::Result<ExitCode> {
    let (found, pending) = plan(owner).await?;
    if is_json {
        write_document(&json!({"schema_version": found, "items": pending}));
        return Ok(ExitCode::SUCCESS);
    }
    pending.iter().for_each(|migration| write_raw(&paragraph(migration)));
    note(&match pending.last() {
        None => format!("the schema is at version {found}: nothing would run"),
        Some(last) => format!(
            "the schema is at version {found} and would be brought to {}; nothing was changed",
            last.version
        ),
    });
    Ok(ExitCode::SUCCESS)
}

fn paragraph(migration: &PlannedMigration) -> String {
    let mut text = format!("V{} {}: {}\n", migration.version, migration.name, migration.what);
    for (table, effect) in &migration.tables {
        text.push_str(&format!("    {} {table}\n", effect.as_str()));
    }
    text.push_str(match migration.keeps_older_servers {
        true => "    servers of the version before go on, and may start again after it\n",
        false => "    not made for servers of the version before: stop them first, or replace them right after it\n",
    });
    text
}

/// The passwords that the URLs name.
pub(super) fn passwords() -> anyhow::Result<Vec<RolePassword>> {
    let mut found = Vec::new();
    for (role, variable) in ROLES {
        found.extend(role_password(variable, &required(variable)?, role)?);
    }
    for (role, variable) in OPTIONAL {
        if let Some(url) = setting(variable) {
            found.extend(role_password(variable, &url, role)?);
        }
    }
    Ok(found)
}

/// Makes the keyring where there is none, and prints the first admin key of the platform, once.
async fn first_key(keys: &Path) -> anyhow::Result<()> {
    let clock = Clock::system();
    std::fs::create_dir_all(keys).with_context(|| format!("cannot make {}", keys.display()))?;
    let keyring = Keyring::load_or_create(keys, clock.now())?;
    let urls = DatabaseUrls {
        app: required("AWOOOP_DATABASE_URL")?,
        dispatch: required("AWOOOP_DISPATCH_DATABASE_URL")?,
    };
    let store = Store::open(&urls, clock, keyring).await?;
    match store.bootstrap().await? {
        Some(key) => {
            note("the platform's first admin key; it is shown this once:");
            write_raw(&format!("{}\n", key.expose_secret()));
        }
        None => note("the platform has an admin key already"),
    }
    Ok(())
}
