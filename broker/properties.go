package broker

// Properties of a publish travel through the journal as the bytes MQTT 5 has
// for them, so that a delivery copies them instead of taking them apart. In
// front of them may stand one byte that is no property, because those are below
// 0x80: the mark, which says in what way the publish was not an ordinary one of QoS 1.
const (
	marked = 0x80
	// markOnce: it came with QoS 0 and was journalled all the same. It is never
	// delivered with more.
	markOnce = 0x01
	// markRetain: it came with the retain flag.
	markRetain = 0x02
	// markTwice: it came with QoS 2.
	markTwice = 0x04
)

// oldOnce is how journals of the first days mark a publish of QoS 0.
const oldOnce = 0x00

// splitMark takes the mark off.
func splitMark(properties []byte) (rest []byte, mark byte) {
	switch {
	case len(properties) == 0:
	case properties[0]&marked != 0:
		return properties[1:], properties[0] &^ marked
	case properties[0] == oldOnce:
		return properties[1:], markOnce
	}
	return properties, 0
}

// isRetained looks only at the mark.
func isRetained(properties []byte) bool {
	return len(properties) > 0 && properties[0]&(marked|markRetain) == marked|markRetain
}
