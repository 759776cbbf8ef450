package transport

import (
	"context"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the connections to members. Nil Metrics count nothing.
type Metrics struct {
	open     *prometheus.GaugeVec
	failures *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(in prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sallyport_member_connections", Help: "Connections to a member that are open.",
		}, []string{"cluster"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_member_dial_failures_total", Help: "Connections to a member that could not be made.",
		}, []string{"cluster"}),
	}
	for _, c := range []prometheus.Collector{m.open, m.failures} {
		if err := in.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) failed(cluster string) {
	if m != nil {
		m.failures.WithLabelValues(cluster).Inc()
	}
}

// forget a member that has no route any more.
func (m *Metrics) forget(cluster string) {
	if m != nil {
		m.open.DeleteLabelValues(cluster)
		m.failures.DeleteLabelValues(cluster)
	}
}

// counting has a dialer's connections counted until they are closed.
func (m *Metrics) counting(cluster string, dial Dialer) Dialer {
	if m == nil {
		return dial
	}
	open := m.open.WithLabelValues(cluster)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		open.Inc()
		return &countedConn{Conn: conn, closed: sync.OnceFunc(open.Dec)}, nil
	}
}

type countedConn struct {
	net.Conn
	closed func()
}

// Close counts it once.
func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
