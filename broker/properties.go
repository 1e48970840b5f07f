package broker

// Properties of a publish travel through the journal as the bytes MQTT 5 has
// for them, so that a delivery copies them instead of taking them apart. In
// front of them may stand one byte that is no property: it marks a publish that
// came with QoS 0 and was journalled all the same, because it is input. It is
// never delivered with more than QoS 0.
const onceMark = 0x00

// splitOnce takes the mark off.
func splitOnce(properties []byte) (rest []byte, once bool) {
	if len(properties) > 0 && properties[0] == onceMark {
		return properties[1:], true
	}
	return properties, false
}
