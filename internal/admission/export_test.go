package admission

// Tenants are how many namespaces a handler remembers.
func (h *Handler) Tenants() int {
	h.turns.mu.Lock()
	defer h.turns.mu.Unlock()
	return len(h.turns.namespaces)
}
