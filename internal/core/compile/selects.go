package compile

// Selects are the names, sorted, of the clusters that a grant's spec selects in the
// snapshot, whatever it is held on.
func (s *Snapshot) Selects(g *Grant) []string {
	free := *g
	free.HeldOn = nil
	var out []string
	for _, i := range selectClusters(&free, s, func(Rejection) {}) {
		out = append(out, s.Fleet.Members()[i].Name)
	}
	return out
}
