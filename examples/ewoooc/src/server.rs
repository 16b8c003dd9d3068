//! The MCP server: lists the tools and calls them.
//!
//! One instance serves one client on one pair of streams, without state between calls. A call that cannot
//! be answered is a result with `isError` and a sentence, so that a model can read it; only a tool that
//! does not exist is a protocol error.

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};

use crate::{Answer, Arguments, BadArguments, OrderBook, ShopTool, TOOLS};

/// The shop as an MCP server.
pub struct Shop {
    book: OrderBook,
}

impl Shop {
    /// A shop over these orders.
    pub fn new(book: OrderBook) -> Self {
        Self { book }
    }

    fn find_tool(name: &str) -> Option<&'static ShopTool> {
        static ALL: [ShopTool; 4] = TOOLS;
        ALL.iter().find(|tool| tool.name == name)
    }
}

impl ServerHandler for Shop {
    fn get_info(&self) -> ServerConfig {
        let about =
            Implementation::new("ewoooc-shop", env!("CARGO_PKG_VERSION")).with_title("EwoooC music shop");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(about)
            .with_instructions(format!(
                "Read-only figures of a music shop's orders. The records cover {}; money is in US dollars.",
                self.book.period()
            ))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(TOOLS.iter().map(|tool| (tool.define)()).collect()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        Self::find_tool(name).map(|tool| (tool.define)())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tool = Self::find_tool(&request.name)
            .ok_or_else(|| ErrorData::invalid_params(format!("there is no tool {:?}", request.name), None))?;
        let arguments = Arguments::new(&self.book, request.arguments.unwrap_or_default());
        Ok(to_result((tool.answer)(&self.book, arguments)).into())
    }
}

fn to_result(answer: Result<Answer, BadArguments>) -> CallToolResult {
    match answer {
        Ok(answer) => {
            let mut result = CallToolResult::success(vec![ContentBlock::text(answer.text)]);
            result.structured_content = Some(answer.figures);
            result
        }
        Err(refusal) => CallToolResult::error(vec![ContentBlock::text(format!("Bad arguments: {refusal}."))]),
    }
}
