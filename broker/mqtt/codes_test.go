package mqtt

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"holdline/chat"
)

// TestRefusalsAreThoseOfTheContract: topics.md names a PUBACK for each reason that the
// broker itself can give. The others are decided after the PUBACK, which is 0x00.
func TestRefusalsAreThoseOfTheContract(t *testing.T) {
	doc, err := os.ReadFile("../../topics.md")
	if err != nil {
		t.Fatal(err)
	}
	stated := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|.*\\| (0x[0-9A-F]{2}) \\|").FindAllStringSubmatch(string(doc), -1) {
		stated[m[1]] = m[2]
	}
	for reason, err := range map[chat.Reason]error{
		chat.ReasonInvalid: chat.ErrInvalid, chat.ReasonTooLarge: chat.ErrTooLarge, chat.ReasonForbidden: chat.ErrForbidden,
	} {
		if got := fmt.Sprintf("0x%02X", refusal(err).Code); stated[string(reason)] != got {
			t.Errorf("%s is %s, topics.md says %q", reason, got, stated[string(reason)])
		}
		delete(stated, string(reason))
	}
	for reason, code := range stated {
		if code != "0x00" {
			t.Errorf("topics.md has %s for %s, which the broker does not decide", code, reason)
		}
	}
	if len(stated) < 4 {
		t.Errorf("topics.md states only %v beside them", stated)
	}
}
