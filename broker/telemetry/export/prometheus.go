// Package export gives what package telemetry counts to those who want it. It
// knows the SDK of OpenTelemetry, and nothing of the broker beside the server
// links it.
package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/sandbar-dev/sandbar/broker/telemetry"
)

// maxSeries bounds each metric. It is far above what the labels can make of a
// dozen providers; beyond it OpenTelemetry adds up what is left in one series, so
// that a mistake costs accuracy and no memory.
const maxSeries = 4000

// Prometheus keeps metrics for a Prometheus server to scrape.
type Prometheus struct {
	// Metrics are what is kept.
	Metrics *telemetry.Metrics

	provider *sdkmetric.MeterProvider
	registry *prometheus.Registry
}

// NewPrometheus returns metrics that nobody has counted yet, beside those of the
// Go runtime and the process. The caller closes it.
func NewPrometheus() (*Prometheus, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo(),
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		return nil, fmt.Errorf("make the reader of metrics: %w", err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithCardinalityLimit(maxSeries))
	m, err := telemetry.New(provider)
	if err != nil {
		return nil, errors.Join(err, provider.Shutdown(context.Background()))
	}
	return &Prometheus{Metrics: m, provider: provider, registry: registry}, nil
}

// Handler serves the metrics at /metrics.
func (p *Prometheus) Handler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{
		ErrorLog: complaints{log}, ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true,
	}))
	return mux
}

// complaints are what keeps a scrape from being whole.
type complaints struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (c complaints) Println(v ...any) {
	c.log.Warn("metrics are not whole", "error", fmt.Sprint(v...))
}

// Close ends the keeping.
func (p *Prometheus) Close(ctx context.Context) error {
	if err := p.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("end metrics: %w", err)
	}
	return nil
}
