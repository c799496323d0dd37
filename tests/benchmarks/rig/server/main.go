// A small static MCP server for the benchmarks: streamable HTTP at /mcp, stateless, both protocol eras, one tool.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
)

const modern = "2026-07-28"

var legacy = map[string]bool{"2025-11-25": true, "2025-06-18": true, "2025-03-26": true, "2024-11-05": true}

type object = map[string]any

type request struct {
	ID     any    `json:"id"`
	Method string `json:"method"`
	Params struct {
		Version   string         `json:"protocolVersion"`
		Name      string         `json:"name"`
		Arguments map[string]any `json:"arguments"`
		Meta      map[string]any `json:"_meta"`
	} `json:"params"`
}

func info() object {
	version := os.Getenv("TINY_VERSION")
	if version == "" {
		version = "1.0.0"
	}
	return object{"name": "static-mcp", "version": version}
}

var tools = []object{{
	"name":        "echo",
	"description": "Returns its text.",
	"inputSchema": object{
		"type":       "object",
		"properties": object{"text": object{"type": "string"}},
		"required":   []string{"text"},
	},
}}

// outcome is the result of one request; nil where there is no such method.
func outcome(asked request) object {
	switch asked.Method {
	case "server/discover":
		return object{
			"supportedVersions": []string{modern}, "capabilities": object{"tools": object{}},
			"ttlMs": 0, "cacheScope": "public",
		}
	case "initialize":
		version := asked.Params.Version
		if !legacy[version] {
			version = "2025-11-25"
		}
		return object{"protocolVersion": version, "capabilities": object{"tools": object{}}, "serverInfo": info()}
	case "tools/list":
		return object{"tools": tools, "ttlMs": 0, "cacheScope": "public"}
	case "tools/call":
		text, _ := asked.Params.Arguments["text"].(string)
		return object{"content": []object{{"type": "text", "text": text}}, "isError": false}
	case "ping":
		return object{}
	}
	return nil
}

func answer(asked request) (int, object) {
	reply := object{"jsonrpc": "2.0", "id": asked.ID}
	version, named := asked.Params.Meta["io.modelcontextprotocol/protocolVersion"].(string)
	if named && version != modern {
		supported := object{"supported": []string{modern}, "requested": version}
		reply["error"] = object{"code": -32022, "message": "Unsupported protocol version", "data": supported}
		return http.StatusBadRequest, reply
	}
	result := outcome(asked)
	if result == nil {
		reply["error"] = object{"code": -32601, "message": "Method not found"}
		return http.StatusNotFound, reply
	}
	if named {
		result["resultType"] = "complete"
		result["_meta"] = object{"io.modelcontextprotocol/serverInfo": info()}
	}
	reply["result"] = result
	return http.StatusOK, reply
}

func serve(writer http.ResponseWriter, incoming *http.Request) {
	if incoming.Method != http.MethodPost {
		writer.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	var asked request
	if json.NewDecoder(http.MaxBytesReader(writer, incoming.Body, 1<<20)).Decode(&asked) != nil {
		writer.WriteHeader(http.StatusBadRequest)
		return
	}
	if asked.ID == nil {
		writer.WriteHeader(http.StatusAccepted)
		return
	}
	status, reply := answer(asked)
	writer.Header().Set("Content-Type", "application/json")
	writer.WriteHeader(status)
	_ = json.NewEncoder(writer).Encode(reply)
}

func main() {
	http.HandleFunc("/mcp", serve)
	log.Fatal(http.ListenAndServe("0.0.0.0:8000", nil))
}
