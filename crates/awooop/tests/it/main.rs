//! Integration tests of the binary, one module a subject.
//!
//! Every test starts what it needs on free ports of 127.0.0.1 and ends it again; none reads the settings of
//! the machine it runs on. A test fails by panicking, also in its helpers.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod access;
mod approvals;
mod attacks;
mod audit;
mod backup;
mod bridging;
mod budget;
mod chaos;
mod cli;
mod clients;
mod config_check;
mod conformance;
mod contract_faults;
mod contracts;
mod control;
mod crowd;
mod definitions;
mod fake;
mod faults;
mod figures;
mod gates;
mod guarded;
mod host;
mod init;
mod isolation;
mod journeys;
mod mcp;
mod mcp_credential_isolation;
mod openapi;
mod operations;
mod ordinary;
mod projects;
mod rates;
mod redact;
mod rotation;
mod runtime;
mod scripted;
mod secrets;
mod separate;
mod services;
mod serving;
mod sign_in;
mod support;
mod tidy;
mod tls;
