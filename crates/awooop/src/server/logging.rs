//! Logs go to stderr, one line an event, in text or JSON (`AWOOOP_LOG_FORMAT=json`); `AWOOOP_LOG` sets the filter
//! (`info` by default). Libraries that would log payloads or statement parameters are kept quiet whatever it says.
//!
//! Everything that is logged, spans' fields and panics too, goes through [`layer::Masked`]: credentials are masked,
//! personal data is tagged. There is no other writer of the log and no way around the layer.
//! How it fails: a closed stderr leaves nobody to tell.

mod fields;
mod layer;

use std::sync::OnceLock;

use awooop_redact::{Action, Redactor, Rules, TagKey};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::layer::{Form, Masked};

/// Libraries that log payloads or statement parameters when they are asked for detail.
const QUIET: &str = "rmcp=error,tokio_postgres=info,hyper=info,h2=info,kube_client=info";

/// The redactor once the keyring is read.
static TAGGING: OnceLock<Redactor> = OnceLock::new();

/// Starts logging for the process; a second call does nothing.
pub(super) fn start(default: &str) {
    let wanted = std::env::var("AWOOOP_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(format!("{wanted},{QUIET}"))
        .unwrap_or_else(|_| EnvFilter::new(format!("{default},{QUIET}")));
    let is_json = std::env::var("AWOOOP_LOG_FORMAT").is_ok_and(|form| form == "json");
    let masked = Masked::new(if is_json { Form::Json } else { Form::Text });
    if tracing_subscriber::registry().with(filter).with(masked).try_init().is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// From now on equal values of personal data have equal tags in the log; before, they are only masked.
pub(super) fn tag_with(key: TagKey) {
    // the key of a process does not change: tags of one log join
    let _ = TAGGING.set(Redactor::with(Rules::everything(Action::Tag).tag_key(key)));
}

/// What the log goes through.
fn redactor() -> Redactor {
    TAGGING.get().cloned().unwrap_or_else(|| Redactor::with(Rules::everything(Action::Mask)))
}

/// A panic may repeat a value in its message, so it goes the way of every event.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => backtrace.to_string(),
        _ => String::new(),
    };
    let message = info.payload_as_str().unwrap_or_default();
    tracing::error!(panic = message, location, thread, backtrace, "a thread panicked");
}

/// A line for a person's terminal that ends a command: errors of the database and of files may repeat values.
pub(crate) fn without_secrets(line: &str) -> String {
    Redactor::new().redact_line(&fields::without_details(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: &str = "AWOOOP_TEST_PANICS";
    const SECRET: &str = "correct-horse-7-battery";

    /// The hook is the whole process's, so the test runs itself once more and reads what that one logs.
    #[test]
    fn a_panic_s_message_and_the_spans_around_it_are_masked() {
        if std::env::var_os(CHILD).is_some() {
            start("info");
            let _span = tracing::info_span!("call", password = SECRET, to = "ann@example.org").entered();
            panic!("cannot connect with password={SECRET}");
        }
        for form in ["text", "json"] {
            let name = "server::logging::tests::a_panic_s_message_and_the_spans_around_it_are_masked";
            let mut again = std::process::Command::new(std::env::current_exe().expect("a path"));
            again.args(["--exact", name, "--nocapture"]).env(CHILD, "1").env("AWOOOP_LOG_FORMAT", form);
            let output = again.env_remove("AWOOOP_LOG").output().expect("the test runs itself");
            let log = [output.stderr, output.stdout].concat();
            let log = String::from_utf8_lossy(&log);
            assert!(!output.status.success());
            assert!(log.contains("a thread panicked") && log.contains("cannot connect with"), "{log}");
            assert!(!log.contains(SECRET) && !log.contains("ann@example.org"), "{log}");
        }
    }
}
