package report_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is a headless Chromium that shows the sample's page.
type browser struct {
	t   *testing.T
	ctx context.Context
	url string

	mu sync.Mutex
	// noise is what the console said and what the page asked others for.
	noise []string
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("needs Chromium: install the package chromium")
	return ""
}

func browse(t *testing.T) *browser {
	t.Helper()
	path := chromium(t)
	html := write(t, page, sample(t))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(html) // the browser may have gone
	}))
	t.Cleanup(server.Close)
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(time.Minute))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // Chromium's own sandbox refuses root
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx, url: server.URL + "/"}
	chromedp.ListenTarget(ctx, b.listen)
	b.do(network.Enable(), log.Enable(), chromedp.Navigate(b.url))
	return b
}

func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		b.noise = append(b.noise, fmt.Sprintf("console: %v", e.Args))
	case *runtime.EventExceptionThrown:
		b.noise = append(b.noise, e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		b.noise = append(b.noise, "log: "+e.Entry.Text)
	case *network.EventRequestWillBeSent:
		if url := e.Request.URL; !strings.HasPrefix(url, b.url) && !strings.HasPrefix(url, "data:") {
			b.noise = append(b.noise, "request: "+url)
		}
	}
}

func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// tells evaluates an expression of JavaScript.
func tells[V any](b *browser, expression string) V {
	b.t.Helper()
	var v V
	b.do(chromedp.Evaluate(expression, &v))
	return v
}

func (b *browser) theme(name string) {
	b.t.Helper()
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}))
}

// quiet says that the page made no error and asked nobody for anything.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.noise {
		b.t.Errorf("the page is not quiet: %s", n)
	}
}

const (
	// tip is the text of the reason that is shown, or nothing.
	tip = `document.getElementById("tip").hidden ? "" : document.getElementById("tip").innerText`
	// bad is a cell with a finding.
	bad = `document.querySelector(".cell.bad")`
	// linked is one whose reason leads to details.
	linked = `document.querySelector(".cell.open[data-href^=r]")`
)

// at returns the middle of what an expression finds, scrolled into view.
func (b *browser) at(expression string) (x, y float64) {
	b.t.Helper()
	p := tells[[]float64](b, `(() => { const e = `+expression+`; e.scrollIntoView({block: "center"});
		const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`)
	return p[0], p[1]
}

// TestReasonsInABrowser points, types and taps, as people do.
func TestReasonsInABrowser(t *testing.T) {
	b := browse(t)
	reason := tells[string](b, bad+`.dataset.reason`)
	if reason == "" {
		t.Fatal("a cell with a finding has no reason")
	}
	x, y := b.at(bad)
	b.do(chromedp.MouseEvent(input.MouseMoved, x, y))
	if got := tells[string](b, tip); !strings.Contains(got, reason) {
		t.Errorf("hovering shows %q, want %q", got, reason)
	}
	b.do(chromedp.MouseEvent(input.MouseMoved, 1, 1))
	if got := tells[string](b, tip); got != "" {
		t.Errorf("after the pointer left, it shows %q", got)
	}
	b.do(chromedp.Evaluate(`document.querySelector(".cell").focus({focusVisible: true})`, nil))
	if got := tells[string](b, tip); got == "" {
		t.Error("the keyboard's focus shows nothing")
	}
	b.do(chromedp.KeyEvent(kb.Escape))
	if got := tells[string](b, tip); got != "" {
		t.Errorf("after Escape, it shows %q", got)
	}
	b.do(emulation.SetTouchEmulationEnabled(true))
	reason = tells[string](b, linked+`.dataset.reason`)
	x, y = b.at(linked)
	b.do(input.DispatchTouchEvent(input.TouchStart, []*input.TouchPoint{{X: x, Y: y}}),
		input.DispatchTouchEvent(input.TouchEnd, []*input.TouchPoint{}), chromedp.Poll("!!("+tip+")", nil))
	if got := tells[string](b, tip); !strings.Contains(got, reason) {
		t.Errorf("a tap shows %q, want %q", got, reason)
	}
	x, y = b.at(`document.querySelector("#tip a")`)
	b.do(emulation.SetTouchEmulationEnabled(false), chromedp.MouseClickXY(x, y))
	if !tells[bool](b, `(() => { const e = document.querySelector(":target");
		return !!e && e.checkVisibility() && e.open !== false; })()`) {
		t.Error("Details does not lead to what is open and visible")
	}
	b.quiet()
}

// contrast is the least contrast of any text with what is behind it.
const contrast = `(() => {
	const ctx = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const rgb = (c) => { ctx.clearRect(0, 0, 1, 1); ctx.fillStyle = c; ctx.fillRect(0, 0, 1, 1); return [...ctx.getImageData(0, 0, 1, 1).data]; };
	const light = (c) => { const [r, g, b] = rgb(c).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	let worst = 21;
	for (const e of document.querySelectorAll("body *")) {
		if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
		let behind = e;
		while (behind && rgb(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
		const a = light(getComputedStyle(e).color), b = light(getComputedStyle(behind || document.body).backgroundColor);
		worst = Math.min(worst, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
	}
	return worst;
})()`

// TestPageInABrowser looks at both themes, on a telephone and on a desk.
func TestPageInABrowser(t *testing.T) {
	b := browse(t)
	grounds := map[string]string{}
	for _, theme := range []string{"light", "dark"} {
		b.theme(theme)
		grounds[theme] = tells[string](b, `getComputedStyle(document.body).backgroundColor`)
		if got := tells[float64](b, contrast); got < 4.5 {
			t.Errorf("%s: some text has a contrast of %.2f, want 4.5 or more (WCAG 2.2, 1.4.3)", theme, got)
		}
		for _, width := range []int64{390, 1280} {
			b.do(chromedp.EmulateViewport(width, 800))
			if got := tells[int64](b, `document.documentElement.scrollWidth`); got > width {
				t.Errorf("%s: a window of %d pixels is scrolled sideways to %d", theme, width, got)
			}
		}
	}
	if grounds["light"] == grounds["dark"] {
		t.Errorf("light and dark have the same background, %s", grounds["light"])
	}
	b.do(chromedp.Evaluate(`document.querySelector(".tools input[type=search]").focus()`, nil), chromedp.KeyEvent("no such case anywhere"))
	if n := tells[int](b, `[...document.querySelector(".tools").closest("section").querySelectorAll(".case")].filter((e) => e.checkVisibility()).length`); n != 0 {
		t.Errorf("a search that finds nothing leaves %d cases", n)
	}
	b.quiet()
}
