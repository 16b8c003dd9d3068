//! The EwoooC music shop: an MCP server with four read-only tools over the shop's orders.
//!
//! It is the example tenant of the control plane, and stands for any team's own tool server: it knows
//! nothing of the platform, and the platform knows it only as a command that speaks MCP on stdio.
//!
//! Invariants: the orders are part of the binary, so there is no file to find and nothing to write; money
//! is counted in whole cents and never in floats; a period includes both of its days; an order is a row.
//! Bad arguments become a tool result with `isError`, in a sentence that says what would be right; only an
//! unknown tool is a protocol error.

mod answer;
mod arguments;
mod money;
mod orders;
mod period;
mod server;
mod tools;

pub use answer::{Answer, BadArguments};
pub use arguments::Arguments;
pub use money::Cents;
pub use orders::{BadRow, Order, OrderBook};
pub use period::{Grouping, Month, Period};
pub use server::Shop;
pub use tools::{ShopTool, TOOLS};
