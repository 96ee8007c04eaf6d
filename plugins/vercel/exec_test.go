package vercel_test

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"

	simulator "github.com/sandbar-dev/sandbar/conformance/simulator/vercel"
	"github.com/sandbar-dev/sandbar/plugins/vercel/api"
	providerv1 "github.com/sandbar-dev/sandbar/proto/gen/sandbar/provider/v1"
)

// TestRecordHasNoEnvironment: a command has its variables, and the vendor, which shows
// the arguments of commands to whoever may look at the sandbox, does not show them.
func TestRecordHasNoEnvironment(t *testing.T) {
	v := newVendor(t)
	p := newPlugin(t, v, "", nil)
	box := p.Create(newRequest())
	secret := rand.Text()
	id := p.StartSpec(box, &providerv1.ExecSpec{Argv: []string{"sh", "-c", `echo "$SECRET"`}, Env: map[string]string{"SECRET": secret}})
	if out, exit := p.Read(box, id); out != secret+"\n" || exit.GetCode() != 0 {
		t.Fatalf("the command printed %q and ended with %v: want its variable", out, exit)
	}
	client := api.New(api.Options{BaseURL: v.url, Token: simulator.DefaultToken, Team: simulator.DefaultTeam, Project: simulator.DefaultProject})
	defer client.Close()
	page, err := client.Sandboxes(p.Ctx, api.ListQuery{Limit: 1})
	if err != nil || len(page.Sandboxes) != 1 {
		t.Fatalf("there are %d sandboxes, %v: want one", len(page.Sandboxes), err)
	}
	req, err := http.NewRequestWithContext(p.Ctx, http.MethodGet,
		v.url+"/v2/sandboxes/sessions/"+page.Sandboxes[0].CurrentSessionID+"/cmd?teamId="+simulator.DefaultTeam, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+simulator.DefaultToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	record, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it was read
	if err != nil || !strings.Contains(string(record), "SECRET") {
		t.Fatalf("the vendor's record is %.200s, %v: want the command's arguments", record, err)
	}
	if strings.Contains(string(record), secret) || strings.Contains(string(record), hex.EncodeToString([]byte(secret))) {
		t.Errorf("the vendor's record has the variable's value: %s", record)
	}
}
