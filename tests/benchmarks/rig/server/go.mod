module static-mcp

go 1.21
