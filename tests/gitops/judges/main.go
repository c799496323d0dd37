// Command judges says what those who wait for an object make of it: the kstatus library (Flux, `helm --wait`), and a
// health check in Lua as Argo CD runs it.
//
//	judges FOLDER < objects.json
//
// FOLDER holds `<group>_<Kind>.lua`; standard input is a JSON list of objects, standard output a list of verdicts.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type opinion struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type verdict struct {
	Kstatus opinion `json:"kstatus"`
	Argo    opinion `json:"argo"`
}

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: judges FOLDER < objects.json"))
	}
	var documents []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&documents); err != nil {
		fail(err)
	}
	verdicts := make([]verdict, 0, len(documents))
	for _, document := range documents {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(document); err != nil {
			fail(err)
		}
		verdicts = append(verdicts, verdict{Kstatus: kstatus(object), Argo: argo(os.Args[1], object)})
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		fail(err)
	}
}

func kstatus(object *unstructured.Unstructured) opinion {
	result, err := status.Compute(object)
	if err != nil {
		fail(err)
	}
	return opinion{string(result.Status), result.Message}
}

// argo does what Argo CD does: an object on its way out is progressing, whatever its check says; the check sees the
// global `obj` and has the libraries package, base and table, and no others.
func argo(folder string, object *unstructured.Unstructured) opinion {
	if object.GetDeletionTimestamp() != nil {
		return opinion{"Progressing", "Pending deletion"}
	}
	kind := object.GroupVersionKind()
	script, err := os.ReadFile(filepath.Join(folder, fmt.Sprintf("%s_%s.lua", kind.Group, kind.Kind)))
	if err != nil {
		fail(err)
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			fail(err)
		}
	}
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoString(string(script)); err != nil {
		fail(err)
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		fail(fmt.Errorf("the check of %s returns no table", kind.Kind))
	}
	return opinion{lua.LVAsString(table.RawGetString("status")), lua.LVAsString(table.RawGetString("message"))}
}

func value(state *lua.LState, given any) lua.LValue {
	switch given := given.(type) {
	case bool:
		return lua.LBool(given)
	case string:
		return lua.LString(given)
	case int64:
		return lua.LNumber(given)
	case float64:
		return lua.LNumber(given)
	case []any:
		table := state.NewTable()
		for _, each := range given {
			table.Append(value(state, each))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for name, each := range given {
			table.RawSetString(name, value(state, each))
		}
		return table
	default:
		return lua.LNil
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "judges:", err)
	os.Exit(1)
}
