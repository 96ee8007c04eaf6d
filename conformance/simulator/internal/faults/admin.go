package faults

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

// AdminPrefix is below which a simulator itself is spoken to.
const AdminPrefix = "/_simulator/"

// Admin serves what a simulator can be asked beside the vendor's API, in JSON and without
// credentials:
//
//	GET    /_simulator/state    what there is: sandboxes by state, and faults left
//	POST   /_simulator/faults   adds a Fault
//	DELETE /_simulator/faults   takes all back
//	POST   /_simulator/evict    {"name": …}: the machine of a sandbox fails
type Admin struct {
	Faults *List
	// State counts sandboxes by their state.
	State func() map[string]int
	// Evict makes the machine of a sandbox fail, and reports whether one of that name
	// ran.
	Evict func(ctx context.Context, name string) (bool, error)
}

// ServeHTTP implements http.Handler.
func (a Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, why := http.StatusOK, ""
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, AdminPrefix) {
	case "GET state":
	case "POST faults", "DELETE faults":
		if err := a.Faults.Serve(r); err != nil {
			status, why = http.StatusBadRequest, err.Error()
		}
	case "POST evict":
		status, why = a.evict(r)
	default:
		status, why = http.StatusNotFound, "want GET state, POST or DELETE faults, or POST evict"
	}
	body := map[string]any{"error": why}
	if why == "" {
		body = map[string]any{"sandboxes": a.State(), "faults": a.Faults.Len()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have left
}

// evict returns the status that says what came of it, and why that is no success.
func (a Admin) evict(r *http.Request) (int, string) {
	var b struct {
		Name string `json:"name"`
	}
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
		return http.StatusBadRequest, err.Error()
	}
	evicted, err := a.Evict(r.Context(), b.Name)
	switch {
	case err != nil:
		return http.StatusInternalServerError, "the simulator failed: " + err.Error()
	case !evicted:
		return http.StatusNotFound, "no sandbox named " + b.Name + " runs"
	}
	return http.StatusOK, ""
}
